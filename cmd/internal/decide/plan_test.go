package decide

import (
	"flag"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"

	"wg-multihome/fwmark"
	"wg-multihome/fwmark/config"
	"wg-multihome/fwmark/socket"
	"wg-multihome/nft"
	"wg-multihome/policy"
	"wg-multihome/wg"
)

// planned is a host in words, on top of what it has in any case: two uplinks with
// a default each, the devices wg0 and wg1, and the cgroups a.service, a.service/in
// and b.service. One fact to a line:
//
//	wan1 0x100 wg0 a.service   the configuration of an uplink
//	typo                       the configuration has an error elsewhere
//	hook                       no person asks for the run
//	unread wg0                 the device does not answer
//	full wg1 0x300             the device is a full tunnel, with this mark
//	marking socket             of all services, in place of their packets
//	exclusive a.service        a program of others allows none beside it
//	denied                     bpf(2) is not permitted
type planned struct {
	o Observation
	m Memory
}

func newPlanned() planned {
	p := planned{m: Memory{Person: true}}
	p.o.Facts.Families = [2]bool{fwmark.IPv4: true}
	p.o.Facts.Rules = []policy.Rule{{Priority: 0, Action: policy.Lookup, Table: policy.TableLocal}, {Priority: 32766, Action: policy.Lookup, Table: policy.TableMain}}
	for name, network := range map[string]string{"wan1": "192.0.2.10/24", "wan2": "198.51.100.10/24"} {
		prefix := netip.MustParsePrefix(network)
		router := prefix.Masked().Addr().Next()
		p.o.Facts.Links = append(p.o.Facts.Links, policy.Link{Name: name, Up: true})
		p.o.Facts.Addrs = append(p.o.Facts.Addrs, policy.Address{Device: name, Prefix: prefix, Global: true})
		p.o.Facts.Routes = append(p.o.Facts.Routes,
			policy.Route{Table: policy.TableMain, Dst: prefix.Masked(), Type: policy.Unicast, Device: name},
			policy.Route{Table: policy.TableMain, Dst: netip.PrefixFrom(netip.IPv4Unspecified(), 0), Type: policy.Unicast, Device: name, Gateway: router, Metric: uint32(name[3] - '0')})
	}
	slices.SortFunc(p.o.Facts.Links, func(a, b policy.Link) int { return strings.Compare(a.Name, b.Name) })
	slices.SortFunc(p.o.Facts.Addrs, func(a, b policy.Address) int { return strings.Compare(a.Device, b.Device) })
	for _, name := range []string{"wg0", "wg1"} {
		p.o.Facts.Links = append(p.o.Facts.Links, policy.Link{Name: name, Up: true, WireGuard: true, Kind: "wireguard"})
		p.o.Devices.Found = append(p.o.Devices.Found, wg.Device{Name: name})
	}
	p.o.Cgroups.ByPath = map[string]nft.Cgroup{"a.service": {ID: 7, Level: 2}, "b.service": {ID: 8, Level: 2}, "a.service/in": {ID: 9, Level: 3}}
	p.o.Cgroups.Names = map[uint64]string{7: "a.service", 8: "b.service", 9: "a.service/in"}
	return p
}

// configure takes a section in, in place of the one before.
func (p *planned) configure(t *testing.T, text string) {
	t.Helper()
	p.o.Config = config.Config{Priority: policy.DefaultPriority, Marking: fwmark.ByPacket}
	p.m.Person = true
	p.down()
	for _, line := range strings.Split(strings.TrimSpace(text), "\n") {
		words := strings.Fields(line)
		switch words[0] {
		case "typo":
			p.o.Config.Problems = []fwmark.Problem{{Text: "a typo"}}
		case "hook":
			p.m.Person = false
		case "unread":
			p.o.Devices.Found = slices.DeleteFunc(slices.Clone(p.o.Devices.Found), func(d wg.Device) bool { return d.Name == words[1] })
			p.o.Devices.Unread = words[1:]
		case "full":
			p.full(t, words[1], mustMark(t, words[2]))
		case "marking":
			p.o.Config.Marking = fwmark.BySocket
			p.askSockets()
		case "exclusive":
			p.o.Sockets.Have.Cgroups[words[1]] = socket.Cgroup{Places: [4]socket.Standing{{Programs: []socket.Attached{{ID: 1, Name: "other"}}}}}
		case "denied":
			p.o.Sockets.Have.Refused = &socket.Refusal{Reason: socket.Denied}
		default:
			in := fwmark.Intent{Uplink: words[0], Mark: mustMark(t, words[1])}
			for _, name := range words[2:] {
				if strings.HasPrefix(name, "wg") {
					in.Devices = append(in.Devices, name)
				} else {
					in.Cgroups = append(in.Cgroups, name)
				}
			}
			p.o.Config.Intents = append(p.o.Config.Intents, in)
		}
	}
}

// askSockets has the cgroups be asked for programs.
func (p *planned) askSockets() {
	if !p.o.Sockets.Asked {
		p.o.Sockets = Sockets{Asked: true, Have: socket.State{Cgroups: map[string]socket.Cgroup{"": {}, "a.service": {}, "a.service/in": {}, "b.service": {}}}}
	}
}

// full has a device be a full tunnel, as wg-quick makes one.
func (p *planned) full(t *testing.T, device string, m fwmark.Mark) {
	t.Helper()
	p.o.Facts.Rules = append(p.o.Facts.Rules, policy.Rule{Priority: 32765, Invert: true, Mark: m, Action: policy.Lookup, Table: m.Value})
	p.o.Facts.Routes = append(p.o.Facts.Routes, policy.Route{Table: m.Value, Dst: netip.PrefixFrom(netip.IPv4Unspecified(), 0), Type: policy.Unicast, Device: device})
	for i := range p.o.Devices.Found {
		if d := &p.o.Devices.Found[i]; d.Name == device {
			d.Mark = m.Value
		}
	}
}

// down takes a full tunnel down, as wg-quick does: the device goes, and its rules
// and routes with it.
func (p *planned) down() {
	for _, r := range p.o.Facts.Routes {
		if r.Device == "wg1" {
			p.o.Facts.Links = slices.DeleteFunc(p.o.Facts.Links, func(l policy.Link) bool { return l.Name == r.Device })
			p.o.Devices.Found = slices.DeleteFunc(p.o.Devices.Found, func(d wg.Device) bool { return d.Name == r.Device })
		}
	}
	p.o.Facts.Rules = slices.DeleteFunc(p.o.Facts.Rules, func(r policy.Rule) bool { return r.Invert })
	p.o.Facts.Routes = slices.DeleteFunc(p.o.Facts.Routes, func(r policy.Route) bool { return r.Device == "wg1" })
}

func mustMark(t *testing.T, text string) fwmark.Mark {
	t.Helper()
	m, err := fwmark.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

var update = flag.Bool("update", false, "write testdata/plans anew: read what has changed")

func rewrite(t *testing.T, file string, text []byte, plan string) {
	t.Helper()
	archive := txtar.Parse(text)
	for i := range archive.Files {
		if archive.Files[i].Name == "plan" {
			archive.Files[i].Data = []byte(plan)
		}
	}
	if err := os.WriteFile(file, txtar.Format(archive), 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestPlans has the steps from one configuration to the next, in their order, as
// `plan` prints them: what may leak lies in it.
func TestPlans(t *testing.T) {
	files, err := filepath.Glob("testdata/plans/*.txtar")
	if err != nil || len(files) < 6 {
		t.Fatalf("%d plans: %v", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			sections := map[string]string{}
			for _, f := range txtar.Parse(text).Files {
				sections[f.Name] = string(f.Data)
			}
			if got := slices.Sorted(maps.Keys(sections)); !slices.Equal(got, []string{"after", "before", "plan"}) {
				t.Fatalf("sections %q", got)
			}
			p := newPlanned()
			p.configure(t, sections["before"])
			p.o = wentThrough(Decide(p.o, p.m)).Observation
			p.configure(t, sections["after"])
			d := Decide(p.o, p.m)
			plan := strings.Join(append(d.Plan(), ""), "\n")
			if *update {
				rewrite(t, file, text, plan)
			}
			if diff := cmp.Diff(sections["plan"], plan); diff != "" {
				t.Errorf("wanted (-), got (+):\n%s\n%s", diff, plan)
			}
			if left := wentThrough(d).Plan(); len(left) > 0 {
				t.Errorf("still to be done: %q", left)
			}
		})
	}
}
