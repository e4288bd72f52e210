// Package status shows what stands: a table for people, JSON for monitoring.
package status

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"wg-multihome/cmd/internal/decide"
	"wg-multihome/cmd/internal/report"
	"wg-multihome/fwmark"
	"wg-multihome/nft"
	"wg-multihome/policy"
	"wg-multihome/wg"
)

// Status is everything that `status` says. Field names are part of the
// contract of `status --json`; addresses and marks are text.
type Status struct {
	Try string `json:"try,omitempty"` // a try that is pending: when it is undone

	Uplinks  []Uplink  `json:"uplinks"`
	Marks    []Mark    `json:"marks"`
	Tunnels  []Tunnel  `json:"tunnels"`
	Notes    []string  `json:"tunnel_notes"` // what is amiss with tunnels
	Services []Service `json:"services"`
	Locks    []Lock    `json:"locks"`
	Detours  []string  `json:"detours"`       // private destinations, and those given to an uplink, that a mark reaches through another uplink or tunnel
	Routing  []string  `json:"routing_notes"` // what rules and routes cannot hold, or leave out

	Held       []string `json:"held_routes"`        // routes where the second lock, as it stands, drops pinned packets
	Outside    []string `json:"outside_lock"`       // devices that it leaves out, with a full feed
	Elements   []string `json:"elements_of_others"` // cgroups that others have put into public sets: marked by packet
	EmptySets  []string `json:"empty_sets"`         // public sets that hold nothing, while nothing else is pinned by their mark
	OtherMarks uint64   `json:"other_marks"`        // packets and connections with a mark in our bits that is none of ours

	Fronts   []string `json:"fronts"`              // foreign rules that ours stand in front of
	Served   []string `json:"served"`              // uplinks' addresses that are left to foreign rules
	Unasked  []string `json:"unasked"`             // foreign rules behind ours for addresses, so that those do not ask them
	Lacks    []string `json:"lacks"`               // what this kernel has not
	Config   []string `json:"configuration_notes"` // what was understood, where one may have meant something else
	Problems []string `json:"problems"`
	Errors   []string `json:"errors"`
	Drift    []string `json:"drift"`  // the steps that `sync` would take
	Astray   []string `json:"astray"` // what the kernel does not send where it belongs
}

// Uplink is an uplink in one family.
type Uplink struct {
	Name    string   `json:"name"`
	Family  int      `json:"family"` // 4 or 6
	State   string   `json:"state"`  // up, down or absent
	Address string   `json:"address,omitempty"`
	Others  []string `json:"other_addresses,omitempty"`
	Gateway string   `json:"gateway,omitempty"` // "none": the link has none; empty: none is known, so there is no table
	Table   uint32   `json:"table,omitempty"`
	Leased  bool     `json:"leased"`
}

// Mark is a mark in force.
type Mark struct {
	Mark    string `json:"mark"`
	Uplink  string `json:"uplink,omitempty"` // empty: guards alone
	Guarded bool   `json:"guarded"`          // its guards stand in both families
	Routed4 bool   `json:"routed_4"`         // the kernel sends it by its uplink; else IPv4 is refused, or goes astray
	Routed6 bool   `json:"routed_6"`
	Full    bool   `json:"full_tunnel,omitempty"` // not configured: the one that a pinned full tunnel keeps
	Kept    bool   `json:"kept,omitempty"`        // as it stands, while the configuration has an error
	ForRuns bool   `json:"for_runs,omitempty"`    // it is configured no longer, and kept while commands of `run` have it
	Refuses string `json:"refuses,omitempty"`     // the uplink, without a mark that can be read, whose services and tunnels have it: they are refused

	astray [2]bool // by Family: the kernel sends it by another device
}

// Service is a cgroup as configured.
type Service struct {
	Cgroup string `json:"cgroup"` // its path below the cgroup2 mount
	Uplink string `json:"uplink"`
	Mark   string `json:"mark"`
	Exists bool   `json:"exists"` // it is there now
	Pinned bool   `json:"pinned"` // and what stands pins it, and not one of its name that is gone

	Refused bool `json:"refused,omitempty"` // its uplink has no mark that can be read: what it sends is refused

	// Where some services are marked by socket:
	Marking string   `json:"marking,omitempty"` // socket or packet
	Why     string   `json:"why,omitempty"`     // why by packet, where it is not for the configuration
	First   []string `json:"first,omitempty"`   // programs of others that are called before ours: if one sets a mark, that one counts
}

// Of tells the status from a decision about the host, and what was inspected
// beside it.
func Of(v decide.Decision, in Inspection, now time.Time) Status {
	held := held(v)
	s := Status{
		Locks: locks(v, held), Held: held, Outside: outside(v), Elements: elements(v), EmptySets: emptySets(v), OtherMarks: v.Table.Have.Counters[nft.OtherMarks],
		Uplinks: []Uplink{}, Marks: marks(v, in), Tunnels: tunnels(v), Services: services(v), Detours: detours(v), Routing: routing(v),
		Notes: []string{}, Fronts: []string{}, Served: []string{}, Unasked: []string{}, Lacks: []string{}, Problems: []string{}, Errors: []string{},
		Drift: v.Plan(), Astray: append([]string{}, v.Astray(in.questions, in.answers)...),
	}
	for _, u := range v.Uplinks {
		for _, f := range fwmark.Families {
			if row, worth := uplink(v, u, f); worth {
				s.Uplinks = append(s.Uplinks, row)
			}
		}
	}
	for _, f := range v.Rules.Fronts {
		s.Fronts = append(s.Fronts, f.String())
	}
	for _, served := range v.Rules.Served {
		s.Served = append(s.Served, served.String())
	}
	for _, r := range v.Rules.Unasked {
		s.Unasked = append(s.Unasked, r.String())
	}
	for _, f := range fwmark.Families {
		if !v.Facts.Families[f] {
			s.Lacks = append(s.Lacks, "policy rules for IPv"+f.String())
		}
	}
	if v.Table.Missing != nil {
		s.Lacks = append(s.Lacks, "nftables: "+v.Table.Missing.Error())
	}
	if slices.ContainsFunc(s.Tunnels, func(t Tunnel) bool { return t.Wanted != "" && !t.Present }) && !wg.InKernel() {
		s.Lacks = append(s.Lacks, "WireGuard (userspace devices get their marks all the same)")
	}
	s.Config = append(append([]string{}, v.Config.Notes...), misspelt(v)...)
	for _, p := range v.Problems {
		s.Problems = append(s.Problems, p.Error())
	}
	for _, err := range slices.Concat(v.Errs, in.errs) {
		s.Errors = append(s.Errors, err.Error())
	}
	s.addTunnels(in, now)
	return s
}

// Report is how looking at the host ended.
func (s Status) Report() report.Report {
	var rep report.Report
	for _, text := range s.Problems {
		rep.Problems = append(rep.Problems, fwmark.Problem{Text: text})
	}
	for _, text := range s.Errors {
		rep.Errs = append(rep.Errs, errors.New(text))
	}
	return rep
}

// uplink makes a row; a family without address and gateway is worth one only
// where it is IPv4, so that every uplink has a row.
func uplink(v decide.Decision, u fwmark.Uplink, f fwmark.Family) (Uplink, bool) {
	row := Uplink{Name: u.Name, Family: 4, State: "up"}
	if f == fwmark.IPv6 {
		row.Family = 6
	}
	switch {
	case !u.Present:
		row.State = "absent"
	case !u.Up:
		row.State = "down"
	}
	if a := u.Address[f]; a.IsValid() {
		row.Address = a.String()
		row.Leased = v.Records[u.Name].Address.Addr() == a
		if u.Routed(f) {
			row.Table = policy.MarkTable(u, f)
		}
	}
	for _, a := range u.Addrs {
		if fwmark.FamilyOf(a) == f && a != u.Address[f] {
			row.Others = append(row.Others, a.String())
		}
	}
	row.Gateway = gateway(u.Gateways[f])
	return row, f == fwmark.IPv4 || row.Address != "" || row.Gateway != ""
}

func gateway(a netip.Addr) string {
	switch {
	case !a.IsValid():
		return ""
	case a.IsUnspecified():
		return "none"
	}
	return a.String()
}

func marks(v decide.Decision, in Inspection) []Mark {
	list := make([]Mark, 0, len(v.Pins))
	for _, p := range v.Pins {
		routed, astray := in.ways(p)
		list = append(list, Mark{
			Mark: p.Mark.String(), Uplink: p.Uplink, Guarded: v.Guarded(p.Mark),
			Routed4: routed[fwmark.IPv4], Routed6: routed[fwmark.IPv6], astray: astray, Full: p.Full, Kept: p.Kept, ForRuns: v.Outlived(p.Mark), Refuses: v.Refused(p),
		})
	}
	return list
}

func number(mark uint32) string {
	if mark == 0 {
		return "off"
	}
	return fwmark.Mark{Value: mark, Mask: fwmark.FullMask}.String()
}

func services(v decide.Decision) []Service {
	list := []Service{}
	for _, p := range v.Pins {
		pinned := v.Table.Have.Sets[nft.PathsSet(p.Mark)].Cgroups
		for _, path := range p.Cgroups {
			c, exists := v.Locks.Cgroups[path]
			s := Service{Cgroup: path, Uplink: cmp.Or(p.Uplink, v.Refused(p)), Refused: v.Refused(p) != "", Mark: p.Mark.String(), Exists: exists, Pinned: exists && slices.Contains(pinned, c.ID)}
			s.addMarking(v)
			list = append(list, s)
		}
	}
	return list
}

// addMarking tells how a service is marked.
func (c *Service) addMarking(v decide.Decision) {
	service, decided := v.Service(c.Cgroup)
	switch why := service.Packet; {
	case !decided || !v.Sockets.Asked:
	case why == nil:
		stands, there := v.Sockets.Have.Cgroups[c.Cgroup]
		c.Marking, c.Pinned = "socket", there && stands.Complete(service.Mark)
		for _, a := range stands.First {
			c.First = append(c.First, fmt.Sprintf("%s (id %d)", cmp.Or(a.Name, "without a name"), a.ID))
		}
	default:
		c.Marking = "packet"
		if !why.Configured {
			c.Why = why.String()
		}
	}
}

// detours are what a mark reaches through another uplink than its own, or through
// what leads everywhere: destinations that all reach one way.
func detours(v decide.Decision) []string {
	list := []string{}
	for _, r := range v.Rules.Destinations.Shared() {
		if slices.ContainsFunc(v.Pins, func(p fwmark.Pin) bool { return p.Uplink != "" && p.Uplink != r.Device }) {
			list = append(list, r.String())
		}
	}
	return list
}

// routing tells what rules and routes cannot hold, or leave out.
func routing(v decide.Decision) []string {
	list := slices.Clone(v.Rules.Destinations.Left)
	others := map[uint32]int{}
	for _, l := range v.Rules.OtherGroups {
		others[l.Group]++
	}
	for _, l := range v.Rules.OtherGroups {
		note := fmt.Sprintf("%s is in link group %d, which others have set: the second lock alone holds main's routes through it", l.Device, l.Group)
		if others[l.Group] == len(v.Rules.OtherGroups) && len(v.Rules.Groups) == 0 {
			note += fmt.Sprintf("; `group = %d` in the configuration has the rules hold them", l.Group)
		}
		list = append(list, note)
	}
	return append([]string{}, list...)
}
