package policy_test

import (
	"maps"
	"net/netip"
	"slices"
	"strings"

	"wg-multihome/fwmark"
	"wg-multihome/policy"
	"wg-multihome/policy/sim"
)

// allowed returns the uplinks that a packet's mark is promised: those of the
// pins that select it, else those of the marks that devices still carry.
func (r *run) allowed(f fwmark.Family, value uint32) (uplinks []string, pinned bool) {
	for _, p := range r.view.pins {
		if value&p.Mark.Mask == p.Mark.Value {
			uplinks, pinned = append(uplinks, p.Uplink), true
		}
	}
	if pinned {
		return uplinks, true
	}
	for m, uplink := range r.world.carried {
		if value&m.Mask == m.Value && policy.Guards(r.view.facts, m)[f] {
			uplinks = append(uplinks, uplink)
		}
	}
	return uplinks, false
}

// marked returns the marks of packets to watch: of pins, and what devices
// carry while guards stand; under masks with other bits too.
func (r *run) marked(f fwmark.Family) []uint32 {
	var values []uint32
	add := func(m fwmark.Mark) {
		values = append(values, m.Value, m.Value|0x77&^m.Mask)
	}
	for _, p := range r.view.pins {
		add(p.Mark)
	}
	for m := range r.world.carried {
		if policy.Guards(r.view.facts, m)[f] {
			add(m)
		}
	}
	slices.Sort(values)
	return slices.Compact(values)
}

// sources returns no source, and every address of a family.
func (r *run) sources(f fwmark.Family) []netip.Addr {
	sources := []netip.Addr{{}}
	for _, a := range r.world.kernel.Addrs {
		if src := a.Prefix.Addr(); fwmark.FamilyOf(src) == f && !slices.Contains(sources, src) {
			sources = append(sources, src)
		}
	}
	return sources
}

// addLeaks adds the packets that follow a default which is not their uplink's.
func (r *run) addLeaks(f fwmark.Family, leaks map[policy.Packet]string) {
	away := r.away()
	for _, mark := range r.marked(f) {
		uplinks, _ := r.allowed(f, mark)
		for _, src := range r.sources(f) {
			for _, dst := range destinations[f] {
				p := policy.Packet{Mark: mark, Src: src, Dst: dst}
				if v := r.world.kernel.Verdict(p); v.Errno == sim.Done && away[v.Route.Device] && !slices.Contains(uplinks, v.Route.Device) && !r.deliberate(v.Rule) {
					leaks[p] = v.Route.Device
				}
			}
		}
	}
}

// deliberate reports whether a rule is an administrator's word about a part of the
// Internet, or the original shell script's, which is as short as it was until it is
// taken over.
func (r *run) deliberate(rule policy.Rule) bool {
	if rule.Ours() {
		return false
	}
	if slices.Contains(r.scriptRules, rule) {
		return rule.Suppresses
	}
	if rule.To.IsValid() && rule.To.Bits() > 1 {
		return true
	}
	var in []netip.Prefix
	for _, route := range r.world.kernel.Routes() {
		if route.Family == rule.Family && route.Table == rule.Table && route.Type == policy.Unicast && !(rule.Suppresses && route.Dst.Bits() <= int(rule.Suppress)) {
			in = append(in, route.Dst)
		}
	}
	return !policy.LeadsEverywhere(in)
}

// away returns the devices that lead away from LANs: through any other one a
// packet may leave. Those that others have put into a group are left to the second
// lock.
func (r *run) away() map[string]bool {
	away := policy.Away(r.view.facts, r.view.uplinks)
	for _, l := range r.view.OtherGroups {
		delete(away, l.Device)
	}
	return away
}

// checkStep checks that a step opened no leak.
func (r *run) checkStep(s policy.Step) {
	if r.quiet {
		return
	}
	if s.Op == policy.Set { // of both families
		s.Rule.Family = fwmark.IPv6
		r.checkFamily(s, fwmark.IPv4)
	}
	f := s.Rule.Family
	if s.IsRoute {
		f = s.Route.Family
	}
	r.checkFamily(s, f)
}

func (r *run) checkFamily(s policy.Step, f fwmark.Family) {
	now := map[policy.Packet]string{}
	r.addLeaks(f, now)
	for p, device := range now {
		if _, before := r.leaks[p]; !before && !r.noRoom(f) && !r.foreignTable(s, p) && !r.unguarded(s, p) {
			r.fatalf("%s: a leak opens: mark %#x from %v to %v leaves by %s", s, p.Mark, p.Src, p.Dst, device)
		}
	}
	for p := range r.leaks {
		if fwmark.FamilyOf(p.Dst) == f {
			delete(r.leaks, p)
		}
	}
	maps.Copy(r.leaks, now)
	r.followUnmarked(f)
}

// checkPinned checks that no packet of a pin leaks at all.
func (r *run) checkPinned(when string) {
	for p, device := range r.leaks {
		f := fwmark.FamilyOf(p.Dst)
		if _, pinned := r.allowed(f, p.Mark); pinned && !r.noRoom(f) {
			r.fatalf("%s: mark %#x from %v to %v leaves by %s", when, p.Mark, p.Src, p.Dst, device)
		}
	}
}

// unguarded reports whether a step is before a mark's guards: only by chance did
// its packets leave as they are to.
func (r *run) unguarded(s policy.Step, p policy.Packet) bool {
	f := fwmark.FamilyOf(p.Dst)
	before := s.Op == policy.Set || s.Op == policy.Delete && s.Rule.SuppressesGroup // of another group than the wanted one
	return before && !slices.ContainsFunc(r.world.kernel.Rules(f), func(rule policy.Rule) bool {
		return rule.Action == policy.Unreachable && rule.Mark.Selects(p.Mark) && rule.Ours()
	})
}

// foreignTable reports whether a step fills a table that a foreign rule looks
// up, and a packet's mark is no pin's any more: what takes such packets does
// not move our rules forward, until nothing carries the mark.
func (r *run) foreignTable(s policy.Step, p policy.Packet) bool {
	_, pinned := r.allowed(fwmark.FamilyOf(p.Dst), p.Mark)
	return s.IsRoute && !pinned && slices.ContainsFunc(r.foreign(), func(rule policy.Rule) bool {
		return rule.Family == s.Route.Family && rule.Table == s.Route.Table
	})
}

// noRoom reports whether a foreign rule captures that leaves no room in front,
// which Want has told.
func (r *run) noRoom(f fwmark.Family) bool {
	return slices.ContainsFunc(r.view.Errs, func(err error) bool {
		return strings.Contains(err.Error(), "no room") && strings.Contains(err.Error(), "rule "+f.String())
	})
}

// followUnmarked notes where the packets go that have a source and no mark.
func (r *run) followUnmarked(f fwmark.Family) {
	for _, src := range r.sources(f) {
		for _, dst := range destinations[f] {
			p := policy.Packet{Src: src, Dst: dst}
			route, errno := r.world.kernel.Walk(p)
			device := route.Device
			if errno != sim.Done {
				device = errno.Error()
			}
			switch {
			case !r.paired(src):
				device = "no pair"
			case len(r.unmarked[p]) == 0 && !r.tableLeads(src, device):
				device = "by chance"
			}
			r.unmarked[p] = append(r.unmarked[p], device)
		}
	}
}

// paired reports whether an address's look-up stands, ours or the script's.
func (r *run) paired(src netip.Addr) bool {
	return src.IsValid() && slices.ContainsFunc(r.world.kernel.Rules(fwmark.FamilyOf(src)), func(rule policy.Rule) bool {
		return rule.From.IsValid() && rule.From.Addr() == src && rule.Table == policy.TableOf(src)
	})
}

// tableLeads reports whether an address's table has its default through device.
func (r *run) tableLeads(src netip.Addr, device string) bool {
	return slices.ContainsFunc(r.world.kernel.Routes(), func(route policy.Route) bool {
		return route.Table == policy.TableOf(src) && route.Dst.Bits() == 0 && route.Device == device
	})
}

// checkUnmarked checks that an address which left by its uplink before and after
// did so all the time. An address of two interfaces may have lost its pair in
// between, until it was settled whose it is.
func (r *run) checkUnmarked() {
	for p, devices := range r.unmarked {
		last := devices[len(devices)-1]
		own := true
		for _, a := range r.world.kernel.Addrs {
			own = own && (a.Prefix.Addr() != p.Src || a.Device == last)
		}
		if own && devices[0] == last && slices.ContainsFunc(devices, func(w string) bool { return w != last }) {
			r.fatalf("packets from %v to %v went by %q", p.Src, p.Dst, devices)
		}
	}
}
