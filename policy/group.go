package policy

import (
	"cmp"
	"slices"

	"wg-multihome/fwmark"
)

// Uplinks, and devices that lead everywhere, are in one link group: that of
// `suppress_ifgroup` in our rules, which so pass over whatever main has through
// them, of whatever length, as soon as it is there.

// DefaultGroup is their group where the configuration says nothing.
const DefaultGroup = 77

// LinkGroup is a link with its group.
type LinkGroup struct {
	Device string
	Group  uint32
}

// String returns the text form, "link wan1 group 77".
func (l LinkGroup) String() string { return string(l.appendText(make([]byte, 0, textSize))) }

func (l *LinkGroup) appendText(b []byte) []byte {
	b = appendWord(append(b, "link"...), l.Device)
	return appendNumber(appendWord(b, "group"), l.Group)
}

// groupOf returns the group of our rules: the configured one, or, where that
// could not be read, the one that they have now.
func groupOf(f Facts) uint32 {
	if f.Group != 0 {
		return f.Group
	}
	for i := range f.Rules {
		if r := &f.Rules[i]; r.Ours() && r.SuppressesGroup && r.SuppressGroup != 0 {
			return r.SuppressGroup
		}
	}
	return DefaultGroup
}

// standingGroups returns the groups that are ours: the one that is wanted, and
// those that rules of ours name.
func standingGroups(f Facts) map[uint32]bool {
	groups := map[uint32]bool{groupOf(f): true}
	for i := range f.Rules {
		if r := &f.Rules[i]; r.Ours() && r.SuppressesGroup && r.SuppressGroup != 0 {
			groups[r.SuppressGroup] = true
		}
	}
	return groups
}

// Away returns the devices that lead away from this host's LANs: uplinks, and
// what leads everywhere in main or in a table that a foreign rule looks up.
func Away(f Facts, uplinks []fwmark.Uplink) map[string]bool {
	away := map[string]bool{}
	for _, u := range uplinks {
		away[u.Name] = true
	}
	tables := map[tableKey]bool{}
	for _, family := range fwmark.Families {
		tables[tableKey{family, TableMain}] = true
	}
	for i := range f.Rules {
		if r := &f.Rules[i]; !r.Ours() && r.Action == Lookup && r.Table != TableLocal {
			tables[tableKey{r.Family, r.Table}] = true
		}
	}
	for k := range devicesEverywhere(f, func(k tableKey) bool { return tables[k] }) {
		away[k.device] = true
	}
	return away
}

// linkGroups decides which links are to be in our group. A link to which others
// have given a group keeps it.
func (w *wanter) linkGroups() {
	group := groupOf(w.facts)
	ours := standingGroups(w.facts)
	for i := range w.facts.Links {
		l := &w.facts.Links[i]
		if ours[l.Group] {
			w.out.Have.Groups = append(w.out.Have.Groups, LinkGroup{l.Name, l.Group})
		}
		switch {
		case !w.away[l.Name] || l.Loopback || len(w.out.Rules) == 0:
		case l.Group == 0 || ours[l.Group]:
			w.out.Groups = append(w.out.Groups, LinkGroup{l.Name, group})
		default:
			w.out.OtherGroups = append(w.out.OtherGroups, LinkGroup{l.Name, l.Group})
		}
	}
}

// setGroups returns the steps that put links into our group.
func setGroups(have, want State) []Step {
	stands := make(map[LinkGroup]bool, len(have.Groups))
	for _, l := range have.Groups {
		stands[l] = true
	}
	var steps []Step
	for _, l := range want.Groups {
		if !stands[l] {
			steps = append(steps, Step{Op: Set, Link: l})
		}
	}
	return steps
}

// resetGroups returns the steps that take links out of our group. Rules that are
// to go may still need it.
func resetGroups(have, want State) []Step {
	stays := make(map[string]bool, len(want.Groups))
	for _, l := range want.Groups {
		stays[l.Device] = true
	}
	var steps []Step
	for _, l := range have.Groups {
		if !stays[l.Device] {
			steps = append(steps, Step{Op: Set, Link: LinkGroup{Device: l.Device}})
		}
	}
	if len(steps) == 0 {
		return nil
	}
	wanted := ruleSetOf(want.Rules)
	for i := range have.Rules {
		if r := &have.Rules[i]; r.SuppressesGroup && !wanted.has(r) {
			return nil
		}
	}
	return steps
}

// groupsStand reports whether all links are in the group that they are to be in.
func groupsStand(have, want State) bool { return len(setGroups(have, want)) == 0 }

// groupsAfter returns what groups of links become by steps. A link without a group
// is not among them.
func groupsAfter(have []LinkGroup, steps []Step) []LinkGroup {
	changed := map[string]uint32{}
	for i := range steps {
		if s := &steps[i]; s.Op == Set {
			changed[s.Link.Device] = s.Link.Group
		}
	}
	if len(changed) == 0 {
		return have
	}
	after := slices.DeleteFunc(slices.Clone(have), func(l LinkGroup) bool { _, is := changed[l.Device]; return is })
	for device, group := range changed {
		if group != 0 {
			after = append(after, LinkGroup{device, group})
		}
	}
	slices.SortFunc(after, func(a, b LinkGroup) int { return cmp.Compare(a.Device, b.Device) })
	return after
}

// LinksAfter returns what links become by steps.
func LinksAfter(links []Link, steps []Step) []Link {
	links = slices.Clone(links)
	for i := range steps {
		s := &steps[i]
		if s.Op != Set {
			continue
		}
		if at := slices.IndexFunc(links, func(l Link) bool { return l.Name == s.Link.Device }); at >= 0 {
			links[at].Group = s.Link.Group
		}
	}
	return links
}
