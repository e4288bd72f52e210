package run

import (
	"fmt"
	"slices"
	"strings"

	"wg-multihome/cmd/internal/decide"
	"wg-multihome/fwmark"
	"wg-multihome/nft"
	"wg-multihome/nft/cgroup"
	"wg-multihome/policy"
)

// pinOf returns the pin of an uplink that a command can be run on now. The
// error says what it lacks.
func pinOf(v decide.Decision, name string) (fwmark.Pin, error) {
	u := slices.IndexFunc(v.Uplinks, func(u fwmark.Uplink) bool { return u.Name == name })
	own := func(p fwmark.Pin) bool { return p.Uplink == name && !p.Full }
	p := slices.IndexFunc(v.Pins, func(p fwmark.Pin) bool { return own(p) && !p.Kept })
	if p < 0 {
		p = slices.IndexFunc(v.Pins, own)
	}
	switch {
	case u < 0:
		return fwmark.Pin{}, fmt.Errorf("%q is no uplink: there %s", name, listOf(v.Uplinks))
	case p < 0:
		return fwmark.Pin{}, fmt.Errorf("uplink %q has no mark: multihomed-fwmark in its stanza, or fwmark in TOML, gives it one", name)
	case v.Outlived(v.Pins[p].Mark):
		return fwmark.Pin{}, fmt.Errorf("uplink %q has no mark any more: %s is merely held for commands that run already", name, v.Pins[p].Mark)
	case v.Pins[p].Kept:
		return fwmark.Pin{}, fmt.Errorf("mark %s of uplink %q is merely held as it stands, because of an error in the configuration", v.Pins[p].Mark, name)
	}
	return v.Pins[p], addressed(v.Uplinks[u])
}

func listOf(uplinks []fwmark.Uplink) string {
	if len(uplinks) == 0 {
		return "is none"
	}
	var names []string
	for _, u := range uplinks {
		names = append(names, u.Name)
	}
	return "are " + strings.Join(names, ", ")
}

// addressed refuses an uplink by which nothing can leave, in either family.
func addressed(u fwmark.Uplink) error {
	lacks, next := "address", "see what its DHCP client says"
	for _, f := range fwmark.Families {
		switch {
		case u.Routed(f):
			return nil
		case u.Address[f].IsValid():
			lacks, next = "gateway", "`gateway` in the configuration can name one"
		}
	}
	switch {
	case !u.Present:
		return fmt.Errorf("uplink %q is not there: `ip -br link` lists the interfaces that there are", u.Name)
	case !u.Up:
		return fmt.Errorf("uplink %q is down: `ip link set %s up`, and its DHCP client", u.Name, u.Name)
	}
	return fmt.Errorf("uplink %q has no %s now: %s", u.Name, lacks, next)
}

// holds refuses a pin whose guards do not stand, and one by which nothing leaves.
func holds(v decide.Decision, p fwmark.Pin) error {
	if !v.Guarded(p.Mark) {
		return fmt.Errorf("mark %s of uplink %q has no guards: its unreachable rules do not stand; `wg-multihome status` tells more", p.Mark, p.Uplink)
	}
	if routed := policy.Routed(v.Facts, p.Mark); !slices.Contains(routed[:], true) {
		return fmt.Errorf("mark %s of uplink %q has no look-up: nothing could leave; `wg-multihome status` tells more", p.Mark, p.Uplink)
	}
	return nil
}

// pinned refuses a slice whose sockets, or packets, do not get the mark.
func pinned(v decide.Decision, mark fwmark.Mark, slice cgroup.Node) error {
	s, decided := v.Service(slice.Path)
	if !decided || s.Packet != nil {
		return inSet(v, mark, slice)
	}
	if s.Mark != mark || !v.Sockets.Have.Cgroups[slice.Path].Complete(mark) {
		return fmt.Errorf("cgroup %s is not pinned: it has no programs that give its sockets mark %s; `wg-multihome status` tells more", slice.Path, mark)
	}
	return nil
}

// inSet refuses a slice whose id the mark's set does not hold in the kernel, or
// whose marking chain is not whole: a command in it would not be pinned.
func inSet(v decide.Decision, mark fwmark.Mark, slice cgroup.Node) error {
	if v.Table.Missing != nil {
		return fmt.Errorf("nothing can be pinned: %w", v.Table.Missing)
	}
	if v.Refills() || !slices.Contains(v.Table.Have.Sets[nft.PathsSet(mark)].Cgroups, slice.ID) {
		return fmt.Errorf("cgroup %s is not pinned: table inet %s is not as it is to be; `wg-multihome status` tells more", slice.Path, nft.Table)
	}
	return nil
}
