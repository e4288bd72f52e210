package explain_test

import (
	"bytes"
	"encoding/json"
	"net/netip"
	"os"
	"slices"
	"testing"

	"golang.org/x/tools/txtar"

	"wg-multihome/cmd/internal/decide"
	"wg-multihome/cmd/internal/explain"
	"wg-multihome/cmd/internal/screen"
	"wg-multihome/fwmark"
	"wg-multihome/fwmark/config"
	"wg-multihome/nft"
	nftsim "wg-multihome/nft/sim"
	"wg-multihome/policy"
	"wg-multihome/policy/policytest"
	"wg-multihome/policy/sim"
	"wg-multihome/wg"
)

// world is a host: wan1 and wan2 with addresses, wan3 that is down, a LAN, a full
// tunnel of wg-quick that is pinned to wan2, and a service of wan2.
type world struct {
	kernel *sim.Kernel
	rules  map[uint32]policy.Selectors // of foreign rules, by priority
	d      decide.Decision
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{kernel: sim.New(), rules: map[uint32]policy.Selectors{500: {Unknown: []string{"uidrange"}}}}
	k := w.kernel
	k.Links = append(k.Links, policy.Link{Name: "wan1", Up: true}, policy.Link{Name: "wan2", Up: true}, policy.Link{Name: "wan3"},
		policy.Link{Name: "lan0", Up: true}, policy.Link{Name: "wg0", Up: true, WireGuard: true, Kind: "wireguard"})
	for device, text := range map[string]string{"wan1": "192.0.2.10/24", "wan2": "198.51.100.10/24", "lan0": "192.168.7.1/24", "wg0": "10.8.0.2/32"} {
		k.Addrs = append(k.Addrs, policy.Address{Device: device, Prefix: netip.MustParsePrefix(text), Global: true})
	}
	slices.SortFunc(k.Addrs, func(a, b policy.Address) int { return a.Prefix.Addr().Compare(b.Prefix.Addr()) })
	for _, a := range k.Addrs {
		addr := a.Prefix.Addr()
		k.AppendRoute(policy.Route{Table: policy.TableLocal, Dst: netip.PrefixFrom(addr, 32), Type: 2, Device: a.Device, Src: addr})
	}
	for _, text := range []string{
		"route 4 main 192.0.2.0/24 dev wan1 src 192.0.2.10", "route 4 main 198.51.100.0/24 dev wan2 src 198.51.100.10", "route 4 main 192.168.7.0/24 dev lan0 src 192.168.7.1",
		"route 4 main default via 192.0.2.1 dev wan1 metric 1", "route 4 main default via 198.51.100.1 dev wan2 metric 2",
		"route 4 51820 default dev wg0", "rule 4 500 unreachable", "rule 4 32751 not fwmark 0xca6c lookup 51820",
	} {
		s, err := policytest.ParseStep("+ " + text)
		if err != nil {
			t.Fatal(err)
		}
		s.Rule.Protocol, s.Route.Protocol, s.Rule.Opaque = 3, 3, s.Rule.Priority == 500
		if errno := k.Do(s); errno != 0 {
			t.Fatalf("%s: %v", text, errno)
		}
	}
	memory := decide.Memory{Person: true, Forgotten: map[fwmark.Mark]bool{}} // nothing runs that conntrack could remember
	for _, value := range []uint32{0x2005, 0x2006, 0xca6c} {
		memory.Forgotten[fwmark.Mark{Value: value, Mask: fwmark.FullMask}] = true
	}
	table := nftsim.New()
	for range 3 {
		o := w.observe()
		o.Table.Have, _ = table.Read()
		w.d = decide.Decide(o, memory)
		plan := policytest.Diff(w.d.Rules.Have, w.d.Rules.State)
		for _, s := range append(plan.Open, plan.Close...) {
			if errno := k.Do(s); errno != 0 {
				t.Fatalf("%s: %v", s, errno)
			}
		}
		if err := table.Apply(nft.Diff(o.Table.Have, nft.Want(w.d.Locks), nil)); err != nil {
			t.Fatal(err)
		}
	}
	return w
}

func (w *world) observe() decide.Observation {
	mark := func(v uint32) fwmark.Mark { return fwmark.Mark{Value: v, Mask: fwmark.FullMask} }
	f := w.kernel.Facts()
	f.Routes = slices.DeleteFunc(f.Routes, func(r policy.Route) bool { return r.Table == policy.TableLocal })
	o := decide.Observation{Facts: f, Config: config.Config{Priority: policy.DefaultPriority, Group: fwmark.DefaultGroup}}
	o.Config.Intents = []fwmark.Intent{
		{Uplink: "wan2", Origin: "test", Mark: mark(0x2005), Devices: []string{"wg0"}, Cgroups: []string{"system.slice/a.service"}, Marking: fwmark.ByPacket},
		{Uplink: "wan3", Origin: "test", Mark: mark(0x2006)},
	}
	o.Devices.Found = []wg.Device{{Name: "wg0", Mark: 0xca6c}}
	o.Cgroups.ByPath = map[string]nft.Cgroup{"system.slice/a.service": {ID: 77, Level: 2}}
	return o
}

// look is that of the simulated kernel, which is asked as the real one is. Of a
// device that a socket is bound to it knows nothing.
func (w *world) look(p policy.Probe) (explain.Look, error) {
	var l explain.Look
	for _, r := range w.kernel.Rules(fwmark.FamilyOf(p.Dst)) {
		l.Rules = append(l.Rules, policy.TracedRule{Rule: r, Selectors: w.rules[r.Priority]})
	}
	l.Routes = w.kernel.Routes()
	rules := slices.DeleteFunc(w.kernel.Rules(fwmark.FamilyOf(p.Dst)), func(r policy.Rule) bool { return r.Opaque }) // another user's
	v := policy.Routing{Rules: rules, Routes: l.Routes, Links: w.kernel.Links}.Walk(p.Packet)
	l.Kernel = policy.Resolved{Answer: policy.Answer{Device: v.Route.Device, Errno: v.Errno}, Route: v.Route, Match: v.Route}
	if l.Kernel.Route.Dst = netip.PrefixFrom(p.Dst, p.Dst.BitLen()); !v.Route.Src.IsValid() {
		for _, a := range w.kernel.Addrs {
			if a.Device == v.Route.Device && fwmark.FamilyOf(a.Prefix.Addr()) == fwmark.FamilyOf(p.Dst) {
				l.Kernel.Route.Src = a.Prefix.Addr()
			}
		}
	}
	return l, nil
}

// TestExplain explains packets of each kind on one host, as text and as JSON, to be
// read in testdata. With UPDATE_EXPLAIN=1 they are written anew, to be read before
// they are kept.
func TestExplain(t *testing.T) {
	w := newWorld(t)
	cgroup := func(path string, ids ...nft.Cgroup) explain.Subject {
		return explain.OfCgroup(w.d, explain.Cgroup{What: "service " + path, Path: path, Ids: ids})
	}
	source, err := explain.OfSource(w.d, netip.MustParseAddr("198.51.100.10"))
	if err != nil {
		t.Fatal(err)
	}
	device, err := explain.OfDevice(w.d, []wg.Detail{{Device: wg.Device{Name: "wg0", Mark: 0xca6c}}}, "wg0")
	if err != nil {
		t.Fatal(err)
	}
	archive := &txtar.Archive{}
	var list []explain.Explanation
	x := &explain.Explainer{Decision: w.d, Look: w.look, Last: map[string]string{"wan3": "the last lease was bound yesterday"}}
	for _, c := range []struct {
		name    string
		subject explain.Subject
		dst     string
	}{
		{"no mark", explain.OfMark(w.d, 0), "9.9.9.9"},
		{"mark", explain.OfMark(w.d, 0x2005), "9.9.9.9"},
		{"mark to the LAN", explain.OfMark(w.d, 0x2005), "192.168.7.9"},
		{"mark to another uplink's neighbour", explain.OfMark(w.d, 0x2005), "192.0.2.77"},
		{"mark to this host", explain.OfMark(w.d, 0x2005), "192.0.2.10"},
		{"mark of an uplink that is down", explain.OfMark(w.d, 0x2006), "9.9.9.9"},
		{"mark in IPv6", explain.OfMark(w.d, 0x2005), "2a00::9"},
		{"mark of nobody", explain.OfMark(w.d, 0x99), "9.9.9.9"},
		{"source", source, "9.9.9.9"},
		{"full tunnel", device, "203.0.113.7"},
		{"service", cgroup("system.slice/a.service", nft.Cgroup{ID: 1, Level: 1}, nft.Cgroup{ID: 77, Level: 2}), "192.168.7.9"},
		{"service that is made anew", cgroup("system.slice/a.service", nft.Cgroup{ID: 1, Level: 1}, nft.Cgroup{ID: 78, Level: 2}), "9.9.9.9"},
		{"service of nobody", cgroup("system.slice/b.service", nft.Cgroup{ID: 1, Level: 1}, nft.Cgroup{ID: 79, Level: 2}), "9.9.9.9"},
		{"mistyped service", cgroup("system.slice/aa.service", nft.Cgroup{ID: 1, Level: 1}), "9.9.9.9"},
	} {
		e, err := x.Explain(c.subject, netip.MustParseAddr(c.dst))
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, e)
		var b bytes.Buffer
		_ = e.Write(&b, screen.Screen{}) // to memory
		archive.Files = append(archive.Files, txtar.File{Name: c.name, Data: b.Bytes()})
	}
	text, err := json.MarshalIndent(list[5], "", "\t")
	if err != nil {
		t.Fatal(err)
	}
	archive.Files = append(archive.Files, txtar.File{Name: "json of an uplink that is down", Data: append(text, '\n')})
	const golden = "testdata/explanations.txtar"
	got := txtar.Format(archive)
	if os.Getenv("UPDATE_EXPLAIN") != "" {
		if err := os.WriteFile(golden, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s is not what is said now (UPDATE_EXPLAIN=1):\n%s", golden, got)
	}
}

// TestDisagreement is said as such, and nothing is guessed.
func TestDisagreement(t *testing.T) {
	w := newWorld(t)
	x := &explain.Explainer{Decision: w.d, Look: func(p policy.Probe) (explain.Look, error) {
		l, err := w.look(p)
		l.Kernel.Device, l.Kernel.Match.Device = "wan1", "wan1"
		return l, err
	}}
	e, err := x.Explain(explain.OfMark(w.d, 0x2005), netip.MustParseAddr("9.9.9.9"))
	if err != nil || e.Kernel.Agrees || e.Verdict.Outcome != "unknown" || e.Verdict.Own {
		t.Errorf("%+v %v", e, err)
	}
}
