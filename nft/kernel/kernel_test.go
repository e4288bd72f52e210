package kernel

import (
	"fmt"
	"net/netip"
	"os/exec"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"wg-multihome/fwmark"
	"wg-multihome/nft"
)

// namespace gives the test a network namespace of its own.
func namespace(t testing.TB) *Client {
	t.Helper()
	runtime.LockOSThread() // and never unlocked: the thread ends with the test
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatalf("a network namespace takes root: %v", err)
	}
	c, err := Open()
	must(t, err)
	t.Cleanup(c.Close)
	return c
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// run runs a command in the test's namespace: that of its thread.
func run(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.Command(args[0], args[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %v\n%s", args, err, out)
	}
	return string(out)
}

func addrs(list ...string) (a []netip.Addr) {
	for _, s := range list {
		a = append(a, netip.MustParseAddr(s))
	}
	return a
}

func prefixes(list ...string) (p []netip.Prefix) {
	for _, s := range list {
		p = append(p, netip.MustParsePrefix(s))
	}
	return p
}

// everything is a host for which all parts of the table are there.
func everything() nft.Facts {
	one := fwmark.Uplink{Name: "up1", Present: true, Up: true, Addrs: addrs("192.0.2.10", "2001:db8:1::10")}
	two := fwmark.Uplink{Name: "enp2s0.5@x", Present: true, Up: true, Addrs: addrs("198.51.100.10")}
	one.Address, two.Address = [2]netip.Addr(addrs("192.0.2.10", "2001:db8:1::10")), [2]netip.Addr{netip.MustParseAddr("198.51.100.10")}
	one.Gateways, two.Gateways = [2]netip.Addr(addrs("192.0.2.1", "fe80::1")), [2]netip.Addr{netip.MustParseAddr("198.51.100.1")}
	one.Several = [2]bool{true, true}
	one.LinkMTU, two.LinkMTU, two.AdvMSS = [2]uint32{1500, 1400}, [2]uint32{1400, 1400}, [2]uint32{1300}
	return nft.Facts{
		Strict:  map[string]bool{"up1": true},
		Uplinks: []fwmark.Uplink{two, one},
		Pins: []fwmark.Pin{
			{Mark: fwmark.Mark{Value: 0x1001, Mask: fwmark.FullMask}, Uplink: "up1"},
			{Mark: fwmark.Mark{Value: 0x2000, Mask: 0xff00}, Uplink: "enp2s0.5@x", Cgroups: []string{"system.slice/a.service", "system.slice/gone.service"}},
		},
		Devices: []nft.Device{
			{Name: "up1", Prefixes: prefixes("192.0.2.0/24", "192.0.3.0/24", "10.0.0.0/8", "10.1.0.0/16", "2001:db8:1::/64")},
			{Name: "enp2s0.5@x", Prefixes: prefixes("198.51.100.0/24", "255.255.255.255/32")},
			{Name: "wg7"},
		},
		Sockets: map[fwmark.Mark]bool{{Value: 0x1001, Mask: fwmark.FullMask}: true, {Value: 0x2000, Mask: 0xff00}: true},
		Leased:  true,
		Reach:   [2][]netip.Prefix{prefixes("192.0.2.0/24", "128.0.0.0/2"), prefixes("2001:db8:1::/64", "c000::/2")},
		Cgroups: map[string]nft.Cgroup{"system.slice/a.service": {ID: 1<<40 + 7, Level: 2}},
		Runs:    map[fwmark.Mark][]nft.Cgroup{{Value: 0x1001, Mask: fwmark.FullMask}: {{ID: 77, Level: 2}}},
	}
}

// sync brings the table to what is wanted, and returns the steps.
func sync(t testing.TB, c *Client, f nft.Facts) []string {
	t.Helper()
	have, err := c.Read()
	must(t, err)
	f.Have = have
	plan := nft.Diff(have, nft.Want(f), nil)
	must(t, c.Apply(plan))
	return plan.Steps
}

// settled fails the test if a second run would do anything.
func settled(t *testing.T, c *Client, f nft.Facts) {
	t.Helper()
	have, err := c.Read()
	must(t, err)
	f.Have = have
	if steps := nft.Diff(have, nft.Want(f), nil).Steps; len(steps) > 0 {
		t.Errorf("a second run would do:\n%s", strings.Join(steps, "\n"))
	}
}

// volatile is what nft prints and the pure text has not: counts, elements and
// the fingerprints.
var volatile = regexp.MustCompile(` comment "[0-9a-f]{16}"|\t\tpackets \d+ bytes \d+\n`)

func listed(t *testing.T) string {
	t.Helper()
	return volatile.ReplaceAllString(run(t, "nft", "-t", "list", "table", "inet", nft.Table), "")
}

func TestTextIsThatOfNft(t *testing.T) {
	c := namespace(t)
	f := everything()
	if steps := sync(t, c, f); len(steps) == 0 {
		t.Fatal("nothing was done")
	}
	settled(t, c, f)
	if diff := cmp.Diff(byName(nft.Want(f).String()), byName(listed(t))); diff != "" {
		t.Errorf("our text (-), nft's (+):\n%s", diff)
	}
}

// byName sorts the parts of a table: nft has them in the order in which they
// were made.
func byName(table string) []string {
	parts := strings.Split(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(table), "}")), "\n\n")
	for i := range parts {
		parts[i] = strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(parts[i]), "table inet "+nft.Table+" {"))
	}
	slices.Sort(parts)
	return parts
}

func TestReadsBackWhatItWrote(t *testing.T) {
	c := namespace(t)
	f := everything()
	sync(t, c, f)
	have, err := c.Read()
	must(t, err)
	for _, s := range nft.Want(f).Sets {
		s.Public = false
		if diff := cmp.Diff(s, have.Sets[s.Name], cmpopts.EquateComparable(netip.Addr{}), cmp.Comparer(func(a, b fmt.Stringer) bool { return a.String() == b.String() }), cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("set %s, wanted (-), read (+):\n%s", s.Name, diff)
		}
	}
}

// TestMends has others damage the table in every way that a person can.
func TestMends(t *testing.T) {
	const table = "inet " + nft.Table
	handle := func(t *testing.T, chain, part string) string {
		t.Helper()
		m := regexp.MustCompile(regexp.QuoteMeta(part) + `.*# handle (\d+)`).FindStringSubmatch(run(t, "nft", "-a", "-t", "list", "chain", "inet", nft.Table, chain))
		if m == nil {
			t.Fatalf("no %q in %s", part, chain)
		}
		return m[1]
	}
	for name, damage := range map[string]func(*testing.T) string{
		"flushed":       func(*testing.T) string { return "flush ruleset" },
		"table deleted": func(*testing.T) string { return "delete table " + table },
		"table flushed": func(*testing.T) string { return "flush table " + table },
		"one rule lost": func(*testing.T) string {
			return "delete rule " + table + " lock handle " + handle(t, "lock", "0x00001001")
		},
		"a rule added": func(*testing.T) string { return "insert rule " + table + " lock accept" },
		"a rule replaced": func(t *testing.T) string {
			return "replace rule " + table + " lock handle " + handle(t, "lock", "0x00001001") + " accept"
		},
		"an element lost": func(*testing.T) string { return "delete element " + table + " via4_up1 { 10.0.0.0/8 }" },
		"one too many":    func(*testing.T) string { return "add element " + table + " via4_up1 { 100.64.0.0/10 }" },
		"dormant":         func(*testing.T) string { return "table " + table + " { flags dormant; }" },
		"dormant, and a chain lost": func(t *testing.T) string {
			run(t, "nft", "delete chain "+table+" lock")
			return "table " + table + " { flags dormant; }"
		},
		"policy":        func(*testing.T) string { return "chain " + table + " lock { policy drop; }" },
		"a chain added": func(*testing.T) string { return "add chain " + table + " more { type filter hook output priority 0; }" },
		"a set added": func(*testing.T) string {
			return "add set " + table + " more { type inet_service; }; add element " + table + " more { 22 }"
		},
		"a rule's set": func(*testing.T) string { return "add rule " + table + " lock tcp dport { 1, 2 } accept" },
		"a map":        func(*testing.T) string { return "add map " + table + " m { type ipv4_addr : verdict; }" },
	} {
		t.Run(name, func(t *testing.T) {
			c := namespace(t)
			f := everything()
			sync(t, c, f)
			whole := listed(t)
			run(t, "nft", damage(t))
			if steps := sync(t, c, f); len(steps) == 0 {
				t.Error("it was not seen")
			}
			settled(t, c, f)
			if diff := cmp.Diff(byName(whole), byName(listed(t))); diff != "" {
				t.Errorf("before (-), after (+):\n%s", diff)
			}
		})
	}
}

// TestObjectsOfOthers has everything that others may have in tables of the same
// family (firewalld has helpers), and objects of theirs in ours.
func TestObjectsOfOthers(t *testing.T) {
	for _, table := range []string{"other", nft.Table} {
		t.Run(table, func(t *testing.T) {
			c := namespace(t)
			f := everything()
			sync(t, c, f)
			for _, object := range []string{
				`ct helper h { type "ftp" protocol tcp; }`, "ct timeout t { protocol udp; policy = { replied : 12 }; }",
				"ct expectation e { protocol udp; dport 9; timeout 2m; size 12; l3proto ip; }",
				"quota q { over 1 mbytes; }", "limit l { rate 400/minute; }", "synproxy s { mss 1460; wscale 7; }",
			} {
				// What this kernel lacks nobody can have.
				_ = exec.Command("nft", "table inet "+table+" {\n"+object+"\n}").Run()
			}
			if !strings.Contains(run(t, "nft", "list", "quotas"), "quota q") {
				t.Error("not even a quota could be added")
			}
			settled(t, c, f)
			f.Pins = f.Pins[:1]
			if steps := sync(t, c, f); len(steps) == 0 {
				t.Error("nothing was changed")
			}
			settled(t, c, f)
			sync(t, c, nft.Facts{})
			if left := run(t, "nft", "list", "tables"); strings.Contains(left, nft.Table) {
				t.Errorf("left: %s", left)
			}
		})
	}
}

// TestRulesOfOthersAreNotAskedFor: the kernel picks ours out.
func TestRulesOfOthersAreNotAskedFor(t *testing.T) {
	c := namespace(t)
	f := everything()
	sync(t, c, f)
	run(t, "nft", "add table inet other; add chain inet other c; add rule inet other c tcp dport { 1, 2 } accept; add counter inet other n; add set inet other s { type inet_service; }")
	var foreign []string
	for what, part := range map[string]struct{ dump, table uint16 }{
		"rules": {unix.NFT_MSG_GETRULE, unix.NFTA_RULE_TABLE}, "objects": {unix.NFT_MSG_GETOBJ, unix.NFTA_OBJ_TABLE}, "sets": {unix.NFT_MSG_GETSET, unix.NFTA_SET_TABLE},
	} {
		seen := 0
		must(t, c.dump(part.dump, ours(part.table), func(m message) error {
			seen++
			return each(m, func(kind uint16, d *netlink.AttributeDecoder) {
				if kind == part.table && d.String() != nft.Table {
					foreign = append(foreign, what)
				}
			})
		}))
		if seen == 0 {
			t.Errorf("none of our %s", what)
		}
	}
	if len(foreign) > 0 {
		t.Errorf("others' %v", foreign)
	}
}

// TestOthersElementsStay has elements in a public set while chains and sets
// change.
func TestOthersElementsStay(t *testing.T) {
	c := namespace(t)
	f := everything()
	run(t, "nft", "add table inet other; add set inet other s { type inet_service; elements = { 22 }; }")
	other := run(t, "nft", "list", "table", "inet", "other")
	sync(t, c, f)
	public := nft.Set{Name: "mark_0x2000", Type: nft.Cgroups}
	must(t, c.Apply(nft.Plan{Steps: []string{"by others"}, Elements: []nft.Update{{Set: public, Add: []uint64{1}}}}))
	before, err := c.Read()
	must(t, err)
	if len(before.Sets["mark_0x2000"].Cgroups) != 1 {
		t.Fatalf("public set: %v", before.Sets["mark_0x2000"])
	}
	for _, change := range []func(){
		func() { f.Uplinks[0].Address[0] = netip.Addr{} },
		func() { f.Pins[1].Uplink = "up1" },
		func() {
			f.Pins = append(f.Pins, fwmark.Pin{Mark: fwmark.Mark{Value: 0x10, Mask: 0xff}, Cgroups: []string{}})
		},
		func() { f.Devices = f.Devices[1:] },
		func() {
			f.Cgroups["system.slice/gone.service"] = nft.Cgroup{ID: 9, Level: 9}
			delete(f.Cgroups, "system.slice/a.service")
		},
		func() { f.Pins = f.Pins[1:] },
	} {
		change()
		if steps := sync(t, c, f); len(steps) == 0 {
			t.Error("nothing was changed")
		}
		settled(t, c, f)
		have, err := c.Read()
		must(t, err)
		if !slices.Equal(have.Sets["mark_0x2000"].Cgroups, before.Sets["mark_0x2000"].Cgroups) {
			t.Errorf("public set: %v, was %v", have.Sets["mark_0x2000"], before.Sets["mark_0x2000"])
		}
	}
	sync(t, c, nft.Facts{})
	if have, err := c.Read(); err != nil || have.Exists {
		t.Errorf("the table stands: %v", err)
	}
	if now := run(t, "nft", "list", "table", "inet", "other"); now != other {
		t.Errorf("another table: %s", now)
	}
}

// TestSetsOfOthersAreKept: a mark's public set that others have made, with a time after
// which elements go, keeps them; one of ours that they have made so does not stay.
func TestSetsOfOthersAreKept(t *testing.T) {
	c := namespace(t)
	f := everything()
	table := "inet " + nft.Table
	run(t, "nft", "add table "+table+"; add set "+table+" mark_0x2000 { type cgroupsv2; flags timeout; timeout 1h; }; add set "+table+" mark_0x1001 { type cgroupsv2; flags dynamic; size 99; }; "+
		"add set "+table+" paths_0x2000 { type cgroupsv2; flags timeout; timeout 1h; }")
	for _, name := range []string{"mark_0x2000", "mark_0x1001"} {
		must(t, c.Apply(nft.Plan{Steps: []string{"by others"}, Elements: []nft.Update{{Set: nft.Set{Name: name, Type: nft.Cgroups}, Add: []uint64{9}}}}))
	}
	sync(t, c, f)
	settled(t, c, f)
	have, err := c.Read()
	must(t, err)
	for _, name := range []string{"mark_0x2000", "mark_0x1001"} {
		if s := have.Sets[name]; !slices.Equal(s.Cgroups, []uint64{9}) || !s.Timed {
			t.Errorf("%s: %+v", name, s)
		}
	}
	if s := have.Sets["paths_0x2000"]; s.Timed {
		t.Errorf("elements of ours would go: %+v", s)
	}
}

// TestManyMarks: as many as no host has, each of an uplink and a service of its
// own, go into one transaction.
func TestManyMarks(t *testing.T) {
	c := namespace(t)
	f := nft.Facts{Cgroups: map[string]nft.Cgroup{}}
	for i := range 300 {
		name := fmt.Sprintf("up%d", i)
		f.Uplinks = append(f.Uplinks, fwmark.Uplink{Name: name})
		f.Devices = append(f.Devices, nft.Device{Name: name, Prefixes: prefixes("192.0.2.0/24", "2001:db8::/64")})
		f.Pins = append(f.Pins, fwmark.Pin{Mark: fwmark.Mark{Value: uint32(0x1000 + i), Mask: fwmark.FullMask}, Uplink: name, Cgroups: []string{name}})
		f.Cgroups[name] = nft.Cgroup{ID: uint64(100 + i), Level: 2}
	}
	sync(t, c, f)
	settled(t, c, f)
}

// TestManyElements are more than fit a message, a batch, or a socket's buffer.
func TestManyElements(t *testing.T) {
	c := namespace(t)
	f := everything()
	f.Cgroups = map[string]nft.Cgroup{}
	for i := range 20000 {
		path := fmt.Sprintf("a.slice/%d.service", i)
		f.Pins[1].Cgroups = append(f.Pins[1].Cgroups, path)
		f.Cgroups[path] = nft.Cgroup{ID: uint64(1000 + i), Level: 2}
	}
	for i := range nft.MaxRanges {
		f.Devices[2].Prefixes = append(f.Devices[2].Prefixes, netip.PrefixFrom(netip.AddrFrom4([4]byte{20, byte(i >> 8), byte(i), 0}), 25))
	}
	sync(t, c, f)
	settled(t, c, f)
	have, err := c.Read()
	must(t, err)
	if n, m := len(have.Sets["paths_0x2000"].Cgroups), len(have.Sets["via4_wg7"].Ranges); n != 20000 || m != nft.MaxRanges {
		t.Errorf("%d cgroups and %d ranges stand", n, m)
	}
	f.Devices[2].Prefixes = append(f.Devices[2].Prefixes, netip.MustParsePrefix("20.255.0.0/25"))
	sync(t, c, f)
	settled(t, c, f)
	if have, err = c.Read(); err != nil || have.Sets["via4_wg7"].Name != "" {
		t.Errorf("a full feed is held: %v", err)
	}
}
