package policy_test

import (
	"maps"
	"net/netip"
	"slices"

	"pgregory.net/rapid"

	"wg-multihome/fwmark"
	"wg-multihome/policy"
)

var events = map[string]func(*world, *rapid.T){
	"address comes":      (*world).addAddress,
	"address moves":      (*world).moveAddress,
	"address goes":       (*world).dropAddress,
	"lease":              (*world).changeLease,
	"main":               (*world).changeMain,
	"route goes":         (*world).dropRoute,
	"mark":               (*world).changeMark,
	"priority":           (*world).changePriority,
	"link":               (*world).toggleLink,
	"link group":         (*world).changeGroup,
	"our group":          (*world).changeOurGroup,
	"path MTU":           (*world).learnMTU,
	"configuration":      (*world).breakConfiguration,
	"foreign rule comes": (*world).addForeign,
	"foreign rule goes":  (*world).dropForeign,
	"foreign table":      (*world).addTunnel,
	"full tunnel":        (*world).fullTunnel,
	"our rules go":       (*world).deleteOurs,
	"stray rule of ours": (*world).addOurs,
	"script's pair":      (*world).scriptPair,
	"script's block":     (*world).scriptBlock,
}

// eventNames has some twice: nothing much happens without them.
var eventNames = append(slices.Sorted(maps.Keys(events)), "address comes", "mark", "mark", "lease", "main")

// event changes the host in one way: what a DHCP client, an administrator, a
// VPN or the original shell script may do between two runs, or before the
// first.
func (w *world) event(t *rapid.T) {
	events[rapid.SampledFrom(eventNames).Draw(t, "event")](w, t)
}

func (w *world) addAddress(t *rapid.T) {
	f, link := anyFamily(t), anyLink(t)
	p := anyAddress(t, f)
	a := policy.Address{Device: link, Prefix: p, Global: true, Temporary: f == fwmark.IPv6 && rapid.IntRange(0, 4).Draw(t, "temporary") == 0}
	if slices.Contains(w.kernel.Addrs, a) {
		return
	}
	w.kernel.Addrs = append(w.kernel.Addrs, a)
	if rapid.Bool().Draw(t, "connected route") {
		w.kernel.ReplaceRoute(policy.Route{Family: f, Table: policy.TableMain, Dst: p.Masked(), Type: policy.Unicast, Device: link, Protocol: 2})
	}
}

func (w *world) dropAddress(t *rapid.T) {
	if len(w.kernel.Addrs) > 0 {
		a := rapid.SampledFrom(w.kernel.Addrs).Draw(t, "address")
		w.kernel.RemoveAddress(a.Device, a.Prefix.Addr())
	}
}

func (w *world) moveAddress(t *rapid.T) {
	if len(w.kernel.Addrs) > 0 {
		a := rapid.SampledFrom(w.kernel.Addrs).Draw(t, "address")
		if rapid.Bool().Draw(t, "beside the old one") {
			w.kernel.RemoveAddress(a.Device, a.Prefix.Addr())
		}
		a.Device = anyLink(t)
		w.kernel.Addrs = append(w.kernel.Addrs, a)
	}
}

func (w *world) changeLease(t *rapid.T) {
	link := anyLink(t)
	delete(w.leases, link)
	if rapid.IntRange(0, 3).Draw(t, "expired") == 0 {
		return
	}
	l := policy.Lease{Device: link, Address: anyAddress(t, fwmark.IPv4).Addr()}
	for _, a := range w.kernel.Addrs {
		if a.Device == link && a.Prefix.Addr().Is4() {
			l.Address = a.Prefix.Addr()
		}
	}
	switch rapid.IntRange(0, 3).Draw(t, "gateway") {
	case 0:
		l.Gateway = netip.IPv4Unspecified()
	case 1, 2:
		l.Gateway = anyGateway(t, fwmark.IPv4)
	}
	w.leases[link] = l
}

func (w *world) changeMain(t *rapid.T) {
	device := rapid.SampledFrom(append(slices.Clone(uplinks), "tun0")).Draw(t, "device")
	w.kernel.ReplaceRoute(foreignRoute(t, anyFamily(t), policy.TableMain, device))
}

func (w *world) dropRoute(t *rapid.T) {
	if routes := w.kernel.Routes(); len(routes) > 0 {
		w.kernel.DeleteRoute(rapid.SampledFrom(routes).Draw(t, "route"))
	}
}

func (w *world) changeMark(t *rapid.T) {
	link := anyLink(t)
	in := fwmark.Intent{Uplink: link, Origin: "test"}
	if rapid.IntRange(0, 3).Draw(t, "unmarked") != 0 {
		in.Mark = rapid.SampledFrom(marks).Draw(t, "mark")
	}
	if !in.Mark.IsZero() && rapid.IntRange(0, 2).Draw(t, "pins wg0") == 0 {
		in.Devices = []string{"wg0"}
	}
	for _, f := range fwmark.Families {
		if rapid.Bool().Draw(t, "gateway configured") {
			in.Gateways[f] = anyGateway(t, f)
		}
	}
	if rapid.Bool().Draw(t, "from the others") {
		for name, other := range w.intents {
			if other.Mark == in.Mark {
				other.Mark = fwmark.Mark{}
				w.intents[name] = other
			}
		}
	}
	w.intents[link] = in
}

func (w *world) changePriority(t *rapid.T) {
	near := int(w.priority)
	w.priority = rapid.OneOf(
		rapid.Map(rapid.IntRange(-6, 6), func(d int) uint32 { return uint32(min(32761, max(100, near+d))) }),
		rapid.SampledFrom([]uint32{0, 100, 5000, policy.DefaultPriority, 32761}),
	).Draw(t, "priority")
}

func (w *world) toggleLink(t *rapid.T) {
	link := anyLink(t)
	if rapid.Bool().Draw(t, "up") {
		w.kernel.LinkUp(link)
		return
	}
	w.kernel.LinkDown(link)
}

// changeGroup is what an administrator may do with a link, or a device that is
// made anew.
func (w *world) changeGroup(t *rapid.T) {
	device := rapid.SampledFrom(append(slices.Clone(tunnels), uplinks...)).Draw(t, "device")
	w.kernel.SetGroup(policy.LinkGroup{Device: device, Group: rapid.SampledFrom([]uint32{0, 0, 0, 5, 77}).Draw(t, "group")})
}

func (w *world) changeOurGroup(t *rapid.T) {
	w.group = rapid.SampledFrom([]uint32{0, 77, 78}).Draw(t, "configured group")
}

func (w *world) learnMTU(t *rapid.T) {
	f := anyFamily(t)
	w.kernel.LearnMTU(netip.Addr{}, rapid.SampledFrom(destinations[f][:]).Draw(t, "destination"))
}

func (w *world) breakConfiguration(t *rapid.T) { w.broken = rapid.Bool().Draw(t, "broken") }

// near is a priority where our rules stand, or would.
func (w *world) near(f fwmark.Family) uint32 {
	for _, r := range w.kernel.Rules(f) {
		if r.Ours() {
			return r.Priority
		}
	}
	return policy.DefaultPriority
}

func (w *world) addForeign(t *rapid.T) {
	f := anyFamily(t)
	w.kernel.AddRule(foreignRule(t, f, w.near(f)))
}

func (w *world) dropForeign(t *rapid.T) {
	w.dropRule(t, func(r policy.Rule) bool { return !r.Ours() && r.Protocol != 2 })
}

func (w *world) deleteOurs(t *rapid.T) { w.dropRule(t, policy.Rule.Ours) }

// addOurs adds a rule of one of our roles at any place, as an earlier version
// or somebody by hand may have left it.
func (w *world) addOurs(t *rapid.T) {
	f := anyFamily(t)
	a := anyAddress(t, f).Addr()
	r := policy.Rule{Family: f, Priority: scriptPriority(t, w.near(f)), Action: policy.Lookup, Protocol: policy.Protocol}
	r.Table = rapid.SampledFrom([]uint32{policy.TableOf(a), policy.TableMain, 0}).Draw(t, "table")
	if rapid.Bool().Draw(t, "of a pair") {
		r.From, r.Table = netip.PrefixFrom(a, a.BitLen()), max(r.Table, policy.TableMain)
	} else {
		r.Mark = rapid.SampledFrom(marks).Draw(t, "mark")
	}
	switch r.Table {
	case policy.TableMain:
		r.Suppresses, r.Suppress = true, uint32(rapid.IntRange(0, 1).Draw(t, "suppressed"))
	case 0:
		r.Action = policy.Unreachable
	}
	w.kernel.AddRule(r)
}

func (w *world) dropRule(t *rapid.T, of func(policy.Rule) bool) {
	f := anyFamily(t)
	rules := slices.DeleteFunc(w.kernel.Rules(f), func(r policy.Rule) bool { return !of(r) })
	if len(rules) == 0 {
		return
	}
	for range rapid.IntRange(1, 4).Draw(t, "rules") {
		w.kernel.DeleteRule(rapid.SampledFrom(rules).Draw(t, "rule"))
	}
}

// addTunnel fills a table of others.
func (w *world) addTunnel(t *rapid.T) {
	table := rapid.SampledFrom(foreignTables).Draw(t, "table")
	device := rapid.SampledFrom(append(slices.Clone(tunnels), uplinks...)).Draw(t, "device")
	w.kernel.ReplaceRoute(foreignRoute(t, anyFamily(t), table, device))
}

// fullTunnel does a part of what wg-quick does for one: its mark, its route,
// its rule; or it takes them away.
func (w *world) fullTunnel(t *rapid.T) {
	f := anyFamily(t)
	mark := rapid.SampledFrom([]uint32{51820, 51820, 0x2005, 0x3007}).Draw(t, "mark of the tunnel")
	if rapid.Bool().Draw(t, "marked") {
		w.tunnelMark = rapid.SampledFrom([]uint32{0, mark}).Draw(t, "mark of wg0")
	}
	if rapid.Bool().Draw(t, "routed") {
		w.kernel.ReplaceRoute(policy.Route{Family: f, Table: mark, Dst: defaultOf(f), Type: policy.Unicast, Device: "wg0", Protocol: 3})
	}
	if rapid.Bool().Draw(t, "ruled") {
		r := policy.Rule{Family: f, Priority: max(w.near(f), 2) - 1, Invert: true, Mark: fwmark.Mark{Value: mark, Mask: fwmark.FullMask}, Action: policy.Lookup, Table: mark}
		w.kernel.AddRule(r)
	}
}

// scriptPair is what the original shell script makes for an address.
func (w *world) scriptPair(t *rapid.T) {
	p := anyAddress(t, fwmark.IPv4)
	if len(w.kernel.Addrs) > 0 && rapid.Bool().Draw(t, "an address that is there") {
		p = rapid.SampledFrom(w.kernel.Addrs).Draw(t, "address").Prefix
	}
	a := p.Addr()
	if !a.Is4() {
		return
	}
	prio, protocol := scriptPriority(t, w.near(fwmark.IPv4)), rapid.SampledFrom([]uint8{0, 3}).Draw(t, "protocol")
	from := netip.PrefixFrom(a, 32)
	w.addScriptRules(t, prio,
		policy.Rule{From: from, Action: policy.Lookup, Table: policy.TableMain, Suppresses: true, Protocol: protocol},
		policy.Rule{From: from, Action: policy.Lookup, Table: policy.TableOf(a), Protocol: protocol})
	w.kernel.ReplaceRoute(policy.Route{Table: policy.TableOf(a), Dst: defaultOf(fwmark.IPv4), Type: policy.Unicast,
		Gateway: anyGateway(t, fwmark.IPv4), Device: anyLink(t), Protocol: 3, OnLink: true})
}

// scriptBlock is what the original shell script makes for a mark.
func (w *world) scriptBlock(t *rapid.T) {
	mark := rapid.SampledFrom(marks).Draw(t, "mark")
	table := policy.TableOf(anyAddress(t, fwmark.IPv4).Addr())
	prio, protocol := scriptPriority(t, w.near(fwmark.IPv4)), rapid.SampledFrom([]uint8{0, 3}).Draw(t, "protocol")
	w.addScriptRules(t, prio,
		policy.Rule{Mark: mark, Action: policy.Lookup, Table: policy.TableMain, Suppresses: true, Protocol: protocol},
		policy.Rule{Mark: mark, Action: policy.Lookup, Table: table, Protocol: protocol},
		policy.Rule{Mark: mark, Action: policy.Unreachable, Protocol: protocol})
}

// addScriptRules adds rules at priorities one after the other. A rule of somebody
// else may stand at one of them that deleting the script's rule would delete.
func (w *world) addScriptRules(t *rapid.T, prio uint32, rules ...policy.Rule) {
	like := rapid.IntRange(0, 3*len(rules)).Draw(t, "like which one another rule is")
	for i, r := range rules {
		r.Priority = prio + uint32(i)
		if i == like-1 {
			another := r
			another.Protocol, another.To = 4, netip.MustParsePrefix("10.9.0.0/16")
			w.kernel.AddRule(another)
		}
		w.kernel.AddRule(r)
	}
}

func scriptPriority(t *rapid.T, near uint32) uint32 {
	return rapid.OneOf(
		rapid.Map(rapid.IntRange(-8, 8), func(d int) uint32 { return uint32(max(1, int(near)+d)) }),
		rapid.Uint32Range(1, 32760),
	).Draw(t, "the script's priority")
}
