package status

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"wg-multihome/cmd/internal/decide"
	"wg-multihome/fwmark"
	"wg-multihome/nft"
	"wg-multihome/policy"
)

// Lock is what the second lock did to a mark.
type Lock struct {
	Mark    string `json:"mark"`
	Dropped uint64 `json:"dropped"` // packets, since the counter was made
	Cause   string `json:"likely_cause,omitempty"`
}

// locks tells what the second lock dropped, of the marks whose counter stands.
func locks(v decide.Decision, held []string) []Lock {
	list := []Lock{}
	for _, p := range v.Pins {
		dropped, stands := v.Table.Have.Counters[nft.LockCounter(p.Mark)]
		if !stands {
			continue
		}
		l := Lock{Mark: p.Mark.String(), Dropped: dropped}
		if dropped > 0 {
			l.Cause = cause(v, p, held)
		}
		list = append(list, l)
	}
	return list
}

// copiers are kinds of devices that keep the inner packet's mark on the outer
// one.
var copiers = [...]string{"vxlan", "geneve", "gre", "gretap", "ip6gre", "ip6gretap", "erspan", "ipip", "ip6tnl", "sit", "vti", "vti6", "xfrm"}

// cause is what most probably led marked packets to another device. What shows
// now goes before what can only have been.
func cause(v decide.Decision, p fwmark.Pin, held []string) string {
	if !v.Guarded(p.Mark) {
		return "its rules are missing: others delete them"
	}
	if len(held) > 0 {
		return "routes that the lock does not know (below)"
	}
	if len(v.Rules.Fronts) > 0 {
		return "a foreign rule that stood in front of ours (below)"
	}
	for _, l := range v.Facts.Links {
		if l.Up && l.Name != p.Uplink && slices.Contains(copiers[:], l.Kind) {
			return fmt.Sprintf("the underlay of %s: %s copies the inner packet's mark", l.Name, l.Kind)
		}
	}
	return "sockets bound to another device, or rules that were missing for a while"
}

// held are the routes behind devices where pinned packets are dropped, as the
// lock as it stands does not know them.
func held(v decide.Decision) []string {
	list := []string{}
	for _, d := range v.Locks.Devices {
		if !slices.ContainsFunc(v.Pins, func(p fwmark.Pin) bool { return p.Uplink != d.Name }) {
			continue
		}
		for _, prefix := range nft.Unknown(v.Table.Have, d) {
			list = append(list, routeTo(v, d.Name, prefix))
		}
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// routeTo names the route that leads to a prefix; there may be none, but a rule
// or an address.
func routeTo(v decide.Decision, device string, prefix netip.Prefix) string {
	for _, r := range v.Facts.Routes {
		if r.Device == device && r.Dst == prefix && r.Type == policy.Unicast {
			return r.String()
		}
	}
	return fmt.Sprintf("%s dev %s", prefix, device)
}

// outside are the devices that the second lock leaves out.
func outside(v decide.Decision) []string {
	list := []string{}
	for _, d := range v.Locks.Devices {
		if d.LeftOut() {
			list = append(list, d.Name)
		}
	}
	return list
}

// elements are the cgroups that others have put into marks' sets, a line for a set:
// they are marked by packet, and keep the part for services.
func elements(v decide.Decision) []string {
	list := []string{}
	for _, p := range v.Pins {
		set := v.Table.Have.Sets[nft.MarkSet(p.Mark)]
		var names []string
		for _, id := range set.Cgroups {
			names = append(names, cmp.Or(v.Sockets.Elements[id], v.Cgroups.Names[id], fmt.Sprintf("id %d", id)))
		}
		if len(names) > 0 {
			slices.Sort(names)
			list = append(list, set.Name+": "+strings.Join(names, ", "))
		}
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// emptySets are the public sets that hold nothing while nothing else is pinned
// by their mark.
func emptySets(v decide.Decision) []string {
	list := []string{}
	for _, p := range v.Pins {
		set, stands := v.Table.Have.Sets[nft.MarkSet(p.Mark)]
		if stands && len(set.Cgroups)+len(p.Cgroups)+len(v.Locks.Runs[p.Mark]) == 0 && !slices.Contains(list, set.Name) {
			list = append(list, set.Name)
		}
	}
	return list
}
