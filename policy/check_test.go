package policy_test

import (
	"net/netip"
	"slices"
	"strings"

	"wg-multihome/fwmark"
	"wg-multihome/policy"
	"wg-multihome/policy/policytest"
	"wg-multihome/policy/sim"
)

// checkPlan checks that a plan has its steps in the order of the contract, and
// leads to what is wanted, as far as the plan itself knows.
func (r *run) checkPlan(p policytest.Plan) {
	if r.quiet {
		return
	}
	after := policy.StateAfter(r.view.Have, slices.Concat(p.Open, p.Close))
	if again := policytest.Diff(after, r.view.State); !again.Empty() {
		r.fatalf("after\n%s\nthere is still\n%s", textOf(p), textOf(again))
	}
	pinned := map[fwmark.Mark]bool{}
	for _, pin := range r.view.pins {
		pinned[pin.Mark] = true
	}
	last := -2
	for i, s := range slices.Concat(p.Open, p.Close) {
		rank := openRank(s)
		if s.Op == policy.Set && slices.ContainsFunc(p.Open, misleads) { // by what it leads to until that is gone
			rank = openRank(policy.Step{Op: policy.Add, IsRoute: true})
		}
		if i >= len(p.Open) {
			rank = closeRank(s, pinned[s.Rule.Mark])
		}
		if rank < last {
			r.fatalf("%s is out of order in\n%s", s, textOf(p))
		}
		last = rank
	}
}

// openRank returns a step's place in the order of Open.
func openRank(s policy.Step) int {
	switch add := s.Op == policy.Add; {
	case !add && s.Rule.SuppressesGroup: // another one than the wanted one
		return -2
	case !add && s.Rule.Suppresses: // of an earlier version
		return 6
	case s.Op == policy.Set:
		return -1
	case add && !s.IsRoute && s.Rule.Action == policy.Unreachable:
		return 1
	case !add:
		return 2
	case s.IsRoute:
		return 3
	case !s.Pair():
		return 4
	}
	return 5
}

// misleads reports whether a step of Open deletes what leads by a wrong uplink.
func misleads(s policy.Step) bool {
	return s.Op == policy.Delete && openRank(s) == openRank(policy.Step{Op: policy.Delete})
}

// closeRank returns a step's place in the order of Close: pairs, blocks of
// marks that stay, blocks of marks that go, routes.
func closeRank(s policy.Step, stays bool) int {
	rank := 13
	guard, lookup := s.Rule.Action == policy.Unreachable, !s.Rule.Suppresses
	switch {
	case s.Op == policy.Set:
		return 40
	case s.IsRoute:
		return 30
	case s.Pair() && lookup:
		return 10
	case s.Pair():
		return 11
	case !stays && guard:
		return 22
	case !stays && lookup:
		return 20
	case !stays:
		return 21
	case guard:
		return 12
	case !lookup:
		rank = 14
	}
	return rank
}

// checkForeign checks that what is foreign stands, but for what was taken
// over, and that of what was begun to take over nothing is left.
func (r *run) checkForeign(before []policy.Rule) {
	now := r.foreign()
	for _, rule := range before {
		if !slices.Contains(now, rule) && !slices.Contains(r.scriptRules, rule) {
			r.fatalf("a foreign rule is gone: %s proto %d", rule, rule.Protocol)
		}
	}
	if r.quiet {
		return
	}
	for _, rule := range r.view.Have.Rules {
		if !rule.Ours() {
			r.fatalf("left of what is to be taken over: %s", rule)
		}
	}
	for _, rule := range r.scriptRules {
		begun := slices.ContainsFunc(r.gone, func(g policy.Rule) bool { return g.From == rule.From && g.Mark == rule.Mark })
		if begun && slices.Contains(now, rule) && r.takesOver(rule) {
			r.fatalf("a part of what was taken over is left: %s proto %d", rule, rule.Protocol)
		}
	}
}

// takesOver reports whether there is something of ours to take a rule over: an
// error in the configuration may have come to light that keeps its mark as it
// stands.
func (r *run) takesOver(rule policy.Rule) bool {
	return slices.ContainsFunc(r.view.pins, func(p fwmark.Pin) bool { return p.Mark == rule.Mark && !p.Kept }) ||
		rule.From.IsValid() && slices.ContainsFunc(r.view.State.Rules, func(w policy.Rule) bool { return w.From == rule.From })
}

// checkPairs checks that what is sent from an uplink's address leaves by that
// uplink, but for what an administrator's rule says of it.
func (r *run) checkPairs() {
	if r.quiet {
		return
	}
	paired := map[netip.Addr]bool{}
	for _, rule := range r.view.State.Rules {
		if rule.From.IsValid() {
			paired[rule.From.Addr()] = true
		}
	}
	for _, route := range r.view.State.Routes {
		if route.Dst.Bits() > 0 {
			continue
		}
		rules := r.world.kernel.Rules(route.Family)
		if slices.ContainsFunc(rules, func(rule policy.Rule) bool { return rule.Action == policy.Goto && says(rule) }) {
			continue // what it leads to does not tell
		}
		away := r.away()
		for _, dst := range destinations[route.Family] {
			if !paired[route.Src] || route.Table != policy.TableOf(route.Src) { // a twin's has no pair
				continue
			}
			v := r.world.kernel.Verdict(policy.Packet{Src: route.Src, Dst: dst})
			if way := v.Route.Device; v.Errno == sim.Done && away[way] && way != route.Device && !r.noRoom(route.Family) && !r.deliberate(v.Rule) && !says(v.Rule) {
				r.fatalf("packets from %v to %v leave by %s, not by %s: %s", route.Src, dst, way, route.Device, v.Rule)
			}
		}
	}
	for _, served := range r.view.Served {
		if paired[served.Addr] {
			r.fatalf("%s, and has a pair", served)
		}
	}
}

// says reports whether a rule of others has a selector beside `not fwmark`.
func says(rule policy.Rule) bool {
	return !rule.Ours() && (rule.Opaque || rule.From.IsValid() || rule.To.IsValid() || rule.Mark.Mask != 0 && !rule.Invert)
}

// checkShared checks that an address which several uplinks have stays with one
// of them: the one that has it now, then one with a mark, then the first one by
// name. It is an error that names all.
func (r *run) checkShared() {
	for addr, names := range r.holders() {
		if len(names) == 1 {
			continue
		}
		if r.othersTable(addr) {
			continue
		}
		named := func(err error) bool {
			for _, name := range append(slices.Clone(names), addr.String()) {
				if !strings.Contains(err.Error(), name) {
					return false
				}
			}
			return true
		}
		if !slices.ContainsFunc(r.view.shared, named) {
			r.fatalf("no error names %v and %s: %v", addr, names, r.view.shared)
		}
		keeper := names[0]
		if marked := slices.DeleteFunc(slices.Clone(names), func(n string) bool { return !r.hasMark(n) }); len(marked) > 0 {
			keeper = marked[0]
		}
		for _, route := range r.view.facts.Routes {
			if route.Ours() && route.Table == policy.TableOf(addr) && route.Src == addr && slices.Contains(names, route.Device) {
				keeper = route.Device
			}
		}
		for _, u := range r.view.uplinks {
			if has := slices.Contains(u.Addrs, addr); has != (u.Name == keeper) && slices.Contains(r.holders()[addr], u.Name) {
				r.fatalf("%v is to stay with %s; %s has it: %t", addr, keeper, u.Name, has)
			}
		}
	}
}

// othersTable reports whether another program has the table of an address: it has
// routes there by a device that is no uplink, and the original shell script's
// look-up of the address does not stand.
func (r *run) othersTable(addr netip.Addr) bool {
	scripts := slices.ContainsFunc(append(slices.Clone(r.view.facts.Rules), r.scriptRules...), func(rule policy.Rule) bool {
		return !rule.Ours() && rule.From == netip.PrefixFrom(addr, addr.BitLen()) && rule.Table == policy.TableOf(addr)
	})
	return !scripts && slices.ContainsFunc(r.view.facts.Routes, func(route policy.Route) bool {
		uplink := slices.ContainsFunc(r.view.uplinks, func(u fwmark.Uplink) bool { return u.Name == route.Device })
		return !route.Ours() && route.Table == policy.TableOf(addr) && route.Family == fwmark.FamilyOf(addr) && route.Device != "" && !uplink
	})
}

// holders returns the uplinks of each address, sorted by name.
func (r *run) holders() map[netip.Addr][]string {
	holders := map[netip.Addr][]string{}
	for _, u := range r.view.uplinks { // sorted
		for _, a := range r.view.facts.Addrs {
			if addr := a.Prefix.Addr(); a.Device == u.Name && !slices.Contains(holders[addr], u.Name) {
				holders[addr] = append(holders[addr], u.Name)
			}
		}
	}
	return holders
}

// hasMark reports whether an uplink has a mark, or keeps one because of an error
// in the configuration.
func (r *run) hasMark(uplink string) bool {
	return !r.world.intents[uplink].Mark.IsZero() || r.view.broken && slices.ContainsFunc(policy.Standing(r.view.facts), func(c fwmark.Claim) bool {
		return c.Uplink == uplink
	})
}
