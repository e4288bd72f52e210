package fwmark

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
)

// Resolve decides which marks exist, for whom, and what carries them. It is
// the only place that does.
//
// intents are the configuration's, one per uplink and file; problems are what
// was refused in reading them; standing is what the kernel has of ours; tables
// are the tables of the uplinks' addresses, each with its address; tunnels are
// the full tunnels there are, of one device the mark that it has first.
//
// A pinned device that is a full tunnel keeps its mark F, which becomes a pin
// of its own for the same uplink.
//
// Without an error each intent's mark is a pin. An error leaves the valid part
// as it is; marks that it makes doubtful keep their guards and the uplink that
// their look-up has (guards alone where it has none), and so does, while there
// is any error at all, every mark that stands: a typo takes nobody's guards
// away. The problems returned are those given and those found here.
func Resolve(intents []Intent, problems []Problem, standing []Claim, tables map[uint32]netip.Addr, tunnels []Tunnel) ([]Pin, []Problem) {
	r := resolver{
		intents:  slices.Clone(intents),
		problems: slices.Clone(problems),
		standing: make(map[Mark]Claim, len(standing)),
		doubtful: map[Mark]bool{},
	}
	for _, c := range standing {
		r.standing[c.Mark] = c
	}
	r.checkFiles()
	r.checkUnmarked()
	r.checkOverlaps()
	r.checkTables(tables)
	r.checkClaims("WireGuard device", func(i *Intent) *[]string { return &i.Devices })
	r.checkClaims("cgroup", func(i *Intent) *[]string { return &i.Cgroups })
	r.checkCircles()
	r.findFull(tunnels, tables)
	for _, p := range r.problems {
		for _, m := range p.Marks {
			r.doubtful[m] = true
		}
	}
	if len(r.problems) > 0 {
		r.checkStanding(standing)
	}
	return r.pins(standing), r.problems
}

type resolver struct {
	intents  []Intent
	problems []Problem
	standing map[Mark]Claim
	doubtful map[Mark]bool
	full     []Pin
}

func (r *resolver) refuse(marks []Mark, format string, args ...any) {
	r.problems = append(r.problems, Problem{Text: fmt.Sprintf(format, args...), Marks: marks})
}

// checkFiles refuses an uplink whose options stand in two files: neither is
// the one that was meant. Its stanza's own gateway stays true.
func (r *resolver) checkFiles() {
	first := map[string]int{}
	for i := range r.intents {
		in := &r.intents[i]
		if in.Uplink == "" || !in.Options() {
			continue
		}
		j, twice := first[in.Uplink]
		if !twice {
			first[in.Uplink] = i
			continue
		}
		other := &r.intents[j]
		var marks []Mark
		for _, m := range []Mark{other.Mark, in.Mark} {
			if !m.IsZero() {
				marks = append(marks, m)
			}
		}
		r.refuse(marks, "uplink %q has options in two places: %s and %s", in.Uplink, other.Origin, in.Origin)
		for _, both := range []*Intent{other, in} {
			*both = both.WithoutOptions()
		}
	}
}

// checkUnmarked refuses what is to be pinned by a mark that is not there. A
// mark that was itself refused has said so already.
func (r *resolver) checkUnmarked() {
	for i := range r.intents {
		in := &r.intents[i]
		if !in.Mark.IsZero() || len(in.Devices) == 0 && in.Cgroups == nil {
			continue
		}
		what := "services"
		if names := slices.Concat(in.Devices, in.Cgroups); len(names) > 0 {
			what = quoteAll(names)
		}
		r.refuse(nil, "%s pins %s without a fwmark: give it one, such as 0x2005", in.Origin, what)
		in.Devices, in.Cgroups = nil, nil
	}
}

// checkOverlaps finds marks of two uplinks that one packet can carry. Sorted
// by value under each mask they would be found faster; hosts have a handful.
func (r *resolver) checkOverlaps() {
	for i := range r.intents {
		for j := range i {
			a, b := &r.intents[j], &r.intents[i]
			if a.Mark.IsZero() || b.Mark.IsZero() || a.Uplink == b.Uplink || !a.Mark.Overlaps(b.Mark) {
				continue
			}
			r.refuse([]Mark{a.Mark, b.Mark}, "marks %s of uplink %q (%s) and %s of uplink %q (%s) can match one packet",
				a.Mark, a.Uplink, a.Origin, b.Mark, b.Uplink, b.Origin)
		}
	}
}

// checkTables finds marks that are the number of a table of ours: `wg-quick
// down` takes a device's mark for a table and deletes every rule to it.
func (r *resolver) checkTables(tables map[uint32]netip.Addr) {
	for _, in := range r.intents {
		if addr, ok := tables[in.Mark.Value]; ok && !in.Mark.IsZero() {
			r.refuse([]Mark{in.Mark}, "%s: mark %s of uplink %q is the number of the table of address %s", in.Origin, in.Mark, in.Uplink, addr)
		}
	}
}

// checkClaims finds what two uplinks list, and takes it from both.
func (r *resolver) checkClaims(kind string, list func(*Intent) *[]string) {
	owners := map[string][]int{}
	for i := range r.intents {
		for _, name := range *list(&r.intents[i]) {
			if o := owners[name]; len(o) == 0 || o[len(o)-1] != i {
				owners[name] = append(owners[name], i)
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(owners)) {
		o := owners[name]
		if len(o) < 2 {
			continue
		}
		a, b := &r.intents[o[0]], &r.intents[o[1]]
		r.refuse(nil, "%s %q is claimed by uplink %q (%s) and by uplink %q (%s)", kind, name, a.Uplink, a.Origin, b.Uplink, b.Origin)
		for _, i := range o {
			l := list(&r.intents[i])
			*l = slices.DeleteFunc(slices.Clone(*l), func(s string) bool { return s == name })
		}
	}
}

// checkStanding finds configured marks that overlap one that is kept only
// because there is an error somewhere: its packets would follow the new mark's
// look-up, so the new one gets guards alone until the error is mended.
func (r *resolver) checkStanding(standing []Claim) {
	for _, c := range standing {
		if slices.ContainsFunc(r.intents, func(in Intent) bool { return in.Mark == c.Mark }) ||
			slices.ContainsFunc(r.full, func(p Pin) bool { return p.Mark == c.Mark }) {
			continue
		}
		for _, in := range r.intents {
			if in.Mark.IsZero() || !in.Mark.Overlaps(c.Mark) || in.Uplink == c.Uplink {
				continue
			}
			r.doubtful[in.Mark] = true
			r.refuse([]Mark{in.Mark}, "%s: mark %s of uplink %q can match packets of mark %s, which stands and is kept while the configuration has an error",
				in.Origin, in.Mark, in.Uplink, c.Mark)
		}
	}
}

func (r *resolver) pins(standing []Claim) []Pin {
	pins := map[Mark]Pin{}
	keep := func(m Mark) {
		c := r.standing[m]
		pins[m] = Pin{Mark: m, Uplink: c.Uplink, Full: c.Full, Kept: true}
	}
	for _, in := range r.intents {
		if in.Mark.IsZero() {
			continue
		}
		if _, configured := pins[in.Mark]; !configured || in.Uplink != "" {
			pins[in.Mark] = Pin{Mark: in.Mark, Uplink: in.Uplink, Devices: in.Devices, Cgroups: in.Cgroups, RotatePort: in.RotatePort}
		}
	}
	for _, p := range r.full {
		pins[p.Mark] = p
	}
	if len(r.problems) > 0 {
		for _, c := range standing {
			if _, configured := pins[c.Mark]; !configured {
				keep(c.Mark)
			}
		}
	}
	for m := range r.doubtful {
		keep(m)
	}
	list := make([]Pin, 0, len(pins))
	for _, p := range pins {
		list = append(list, p)
	}
	slices.SortFunc(list, func(a, b Pin) int { return a.Mark.Compare(b.Mark) })
	return list
}

func quoteAll(names []string) string {
	q := make([]string, len(names))
	for i, n := range names {
		q[i] = fmt.Sprintf("%q", n)
	}
	return strings.Join(q, ", ")
}
