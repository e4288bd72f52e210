package doctor

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"testing"

	"wg-multihome/cmd/internal/decide"
	"wg-multihome/cmd/internal/screen"
	"wg-multihome/fwmark"
	"wg-multihome/nft"
	"wg-multihome/policy"
)

func mark(v uint32) fwmark.Mark { return fwmark.Mark{Value: v, Mask: fwmark.FullMask} }

// facts are those of a host with one uplink and one service.
func facts() Facts {
	pin := fwmark.Pin{Mark: mark(0x2005), Uplink: "wan1", Cgroups: []string{"system.slice/a.service"}}
	d := decide.Decision{Uplinks: []fwmark.Uplink{{Name: "wan1", Present: true, Up: true}}, Pins: []fwmark.Pin{pin}}
	d.Locks.Pins = d.Pins
	return Facts{Decision: d, Texts: map[string]string{}, Links: map[string]bool{}, Systemd: true}
}

// TestChecksOfFiles are those that go by what others have written: what they look
// like is from those programs' manuals.
func TestChecksOfFiles(t *testing.T) {
	table := policy.Rule{Priority: 32753, Mark: mark(0x2005), Action: policy.Lookup, Table: 3325256714, Protocol: policy.Protocol}
	for name, c := range map[string]struct {
		code    string
		change  func(*Facts)
		silence func(*Facts) // takes it back, by what mends it
	}{
		"networkd": {"WGM001", func(f *Facts) {
			f.Networkd = []string{"wan1"}
			f.Texts["/etc/systemd/networkd.conf"] = "[Network]\n#ManageForeignRoutingPolicyRules=no\n"
		}, func(f *Facts) {
			f.Texts["/etc/systemd/networkd.conf.d/50-wg-multihome.conf"] = "[Network]\nManageForeignRoutingPolicyRules=no\nManageForeignRoutes=no\n"
		}},
		"wg-quick's text match": {"WGM012", func(f *Facts) {
			f.Decision.Tunnels = []fwmark.Tunnel{{Device: "wg0", Mark: mark(3325)}}
			f.Decision.Facts.Rules = []policy.Rule{{Action: policy.Lookup, Table: policy.TableLocal}, table}
		}, func(f *Facts) { f.Decision.Tunnels[0].Mark = mark(51820) }},
		"two full tunnels": {"WGM014", func(f *Facts) {
			f.Decision.Tunnels = []fwmark.Tunnel{{Device: "wg0", Mark: mark(51820)}, {Device: "wg1", Mark: mark(51820)}}
		}, func(f *Facts) { f.Decision.Tunnels[1].Mark = mark(51821) }},
		"NFTSet= and nftables.service": {"WGM017", func(f *Facts) {
			f.Links["/etc/systemd/system/sysinit.target.wants/nftables.service"] = true
			f.Decision.Table.Have.Sets = map[string]nft.Set{nft.MarkSet(mark(0x2005)): {Name: "mark_0x2005", Cgroups: []uint64{7}}}
		}, func(f *Facts) { f.Links = nil }},
		"firewalld": {"WGM018", func(f *Facts) { f.Processes = []Process{{Name: "firewalld"}} },
			func(f *Facts) { f.Texts["/etc/firewalld/firewalld.conf"] = "IPv6_rpfilter=no\n" }},
		"BindNetworkInterface=": {"WGM020", func(f *Facts) {
			f.Texts["/etc/systemd/system/a.service.d/net.conf"] = "[Service]\nBindNetworkInterface=wan2\n"
		}, func(f *Facts) {
			f.Texts["/etc/systemd/system/a.service.d/net.conf"] = "[Service]\nBindNetworkInterface=wan1\n"
		}},
		"hooks": {"WGM023", func(f *Facts) {
			f.Hooks = []Hook{{Path: "/etc/dhcp/dhclient-exit-hooks.d/zz-wg-multihome", Lacks: "missing"}}
		},
			func(f *Facts) { f.Hooks = nil }},
		"units": {"WGM024", func(f *Facts) { f.Texts["/etc/systemd/system/wg-multihome.service"] = "[Unit]\n" },
			func(f *Facts) { f.Links["/etc/systemd/system/network-pre.target.wants/wg-multihome.service"] = true }},
	} {
		f := facts()
		if list := Run(f); len(list) > 0 {
			t.Fatalf("a healthy host: %+v", list)
		}
		c.change(&f)
		list := Run(f)
		if len(list) != 1 || list[0].Code != c.code || list[0].What == "" || list[0].Evidence == "" || list[0].Mend == "" {
			t.Errorf("%s: %+v", name, list)
		}
		c.silence(&f)
		if list := Run(f); len(list) > 0 {
			t.Errorf("%s, mended: %+v", name, list)
		}
	}
}

// TestUnknown is said of each check that needs what could not be read.
func TestUnknown(t *testing.T) {
	f := facts()
	f.Failed = map[Source]error{Sysctls: errors.New("no /proc")}
	var codes []string
	for _, found := range Run(f) {
		if found.Severity != Unknown || found.Evidence != "sysctls: no /proc" {
			t.Errorf("%+v", found)
		}
		codes = append(codes, found.Code)
	}
	if want := []string{"WGM004", "WGM006", "WGM011", "WGM016"}; !slices.Equal(codes, want) || Bad(Run(f)) {
		t.Errorf("unknown: %v, want %v", codes, want)
	}
}

// TestCodes: they are in order, and each has a reason.
func TestCodes(t *testing.T) {
	last := ""
	for _, c := range Checks() {
		if c.Code <= last || len(c.Code) != 6 || c.Title == "" || len(c.Why) < 70 || c.find == nil {
			t.Errorf("%s: %+v", last, c)
		}
		last = c.Code
	}
}

// TestWrite is what people see.
func TestWrite(t *testing.T) {
	var b bytes.Buffer
	list := []Finding{{"WGM016", Warning, "a", "b\nc", "d"}, {"WGM020", Error, "e", "f", ""}}
	if err := Write(&b, list, screen.Screen{}); err != nil {
		t.Fatal(err)
	}
	const want = `WGM016 warning  a
                b
                c
                mend: d

WGM020 error    e
                f
`
	if b.String() != want {
		t.Errorf("%s", b.String())
	}
	b.Reset()
	if err := Write(&b, nil, screen.Screen{}); err != nil || b.String() != fmt.Sprintf("nothing found by %d checks\n", len(Checks())) {
		t.Errorf("%v %s", err, b.String())
	}
}
