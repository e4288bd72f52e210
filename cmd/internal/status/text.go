package status

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"wg-multihome/nft"
)

// Write writes the status as tables. Parts that have nothing to say are left
// out.
func (s Status) Write(w io.Writer) error {
	t := &table{Writer: tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)}
	t.part()
	fmt.Fprintln(t, s.Answer())
	if s.Try != "" {
		t.list("A TRY IS PENDING", []string{s.Try})
	}
	t.uplinks(s.Uplinks)
	t.head(len(s.Marks), "MARK", "UPLINK", "GUARDS", "IPV4", "IPV6")
	for _, m := range s.Marks {
		t.row(m.Mark, m.Uplink, word(m.Guarded, "stand", "MISSING"), word(m.Routed4, "routed", "refused"),
			word(m.Routed6, "routed", "refused")+word(m.Full, " (of a full tunnel)", "")+m.kept())
	}
	t.tunnels(s.Tunnels)
	t.list("ABOUT TUNNELS", s.Notes)
	t.head(len(s.Services), "SERVICE", "UPLINK", "MARK", "CGROUP")
	for _, c := range s.Services {
		state := word(c.Pinned, "pinned", "NOT PINNED") + c.how()
		if !c.Exists {
			state = "(absent)"
		}
		t.row(c.Cgroup, c.Uplink, c.Mark, state)
	}
	s.writeLock(t)
	t.list("DESTINATIONS THAT ALL REACH ONE WAY, through another uplink than a mark's", s.Detours)
	t.list("ABOUT RULES AND ROUTES", s.Routing)
	t.list("IN FRONT OF FOREIGN RULES", s.Fronts)
	t.list("LEFT TO FOREIGN RULES", s.Served)
	t.list("FOREIGN RULES THAT UPLINKS' ADDRESSES NEVER ASK, as ours for those stand in front", s.Unasked)
	t.list("MISSING IN THIS KERNEL", s.Lacks)
	t.list("ABOUT THE CONFIGURATION", s.Config)
	t.list("ERRORS IN THE CONFIGURATION", s.Problems)
	t.list("ERRORS", s.Errors)
	t.list("NOT WHERE IT BELONGS, by the kernel's own look-up", s.Astray)
	if len(s.Drift) > 0 {
		t.list("DRIFT: `wg-multihome sync` would do", s.Drift)
	}
	return t.Flush()
}

// uplinks writes a row for each family of an uplink, and below it the other
// addresses.
func (t *table) uplinks(list []Uplink) {
	t.head(len(list), "UPLINK", "STATE", "IP", "ADDRESS", "GATEWAY", "TABLE")
	for _, u := range list {
		number := ""
		if u.Table != 0 {
			number = fmt.Sprint(u.Table)
		}
		address := u.Address
		if u.Leased {
			address += " (lease)"
		}
		t.row(u.Name, u.State, fmt.Sprint(u.Family), address, u.Gateway, number)
		for _, a := range u.Others {
			t.row("", "", fmt.Sprint(u.Family), a, "", "")
		}
	}
}

// how says by what a service is marked, where it is not by packets alone that they
// are.
func (c Service) how() string {
	if c.Marking == "" {
		return ""
	}
	text := " by " + c.Marking
	if c.Why != "" {
		text += ": " + c.Why
	}
	if len(c.First) > 0 {
		text += ", behind " + strings.Join(c.First, ", ") + " of others, whose marks count"
	}
	return text
}

// kept says why a mark stands that the configuration does not ask for.
func (m Mark) kept() string {
	if m.ForRuns {
		return " (kept for commands of `run`)"
	}
	return word(m.Kept, " (kept as it stands)", "")
}

func (s Status) writeLock(t *table) {
	locks := slices.DeleteFunc(slices.Clone(s.Locks), func(l Lock) bool { return l.Dropped == 0 })
	t.head(len(locks), "SECOND LOCK", "DROPPED", "LIKELY CAUSE")
	for _, l := range locks {
		t.row(l.Mark, fmt.Sprint(l.Dropped), l.Cause)
	}
	t.list("ROUTES THAT THE SECOND LOCK DOES NOT KNOW, and drops until watch or sync has run", s.Held)
	t.list(fmt.Sprintf("PRIVATE DESTINATIONS ALONE PASS THE SECOND LOCK, as there are more than %d prefixes", nft.MaxRanges), s.Outside)
	t.list("SETS WITH ELEMENTS OF OTHERS, as by NFTSet=, whose packets are marked", s.Elements)
	t.list("SETS WITHOUT ELEMENTS, of marks that pin nothing else; what NFTSet= puts there comes with the unit's next start", s.EmptySets)
	if s.OtherMarks > 0 {
		t.list("MARKS OF OTHER SOFTWARE IN OUR BITS", []string{fmt.Sprintf("%d packets or connections had one, and were left alone: give our marks a mask", s.OtherMarks)})
	}
}

type table struct {
	*tabwriter.Writer
	parts int
}

func (t *table) head(rows int, columns ...string) {
	if rows > 0 {
		t.part()
		t.row(columns...)
	}
}

// part sets a part off from the one before it; its columns are its own.
func (t *table) part() {
	if t.parts > 0 {
		fmt.Fprintln(t)
	}
	t.parts++
}

// row writes cells; empty ones in the middle are shown as "-".
func (t *table) row(cells ...string) {
	for i, c := range cells {
		if c == "" && i > 0 {
			cells[i] = "-"
		}
	}
	fmt.Fprintln(t, strings.Join(cells, "\t"))
}

func (t *table) list(title string, lines []string) {
	if len(lines) == 0 {
		return
	}
	t.part()
	fmt.Fprintf(t, "%s:\n", title)
	for _, l := range lines {
		fmt.Fprintf(t, "  %s\n", l)
	}
}

func word(is bool, yes, no string) string {
	if is {
		return yes
	}
	return no
}
