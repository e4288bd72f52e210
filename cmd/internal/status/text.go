package status

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"wg-multihome/cmd/internal/screen"
	"wg-multihome/fwmark"
	"wg-multihome/nft"
)

// Write writes the status as tables, for where it is read. Parts that have nothing to
// say are left out.
func (s Status) Write(w io.Writer, at screen.Screen) error {
	t := &page{at: at}
	t.answer(s.Answer())
	if s.Try != "" {
		t.list("A TRY IS PENDING", []string{s.Try})
	}
	t.uplinks(s.Uplinks)
	t.marks(s.Marks)
	t.tunnels(s.Tunnels)
	t.peers(s.Tunnels)
	t.list("ABOUT TUNNELS", s.Notes)
	t.services(s.Services)
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
	_, err := io.WriteString(w, t.b.String())
	return err
}

// answer is the first line, whose first word says whether all is well.
func (t *page) answer(line string) {
	t.part()
	word, rest, _ := strings.Cut(t.at.Fill(line, 2), ":")
	colour := screen.Bad
	if word == "ok" {
		colour = screen.Good
	}
	t.b.WriteString(t.at.Paint(colour, word+":") + rest + "\n")
}

func (t *page) marks(list []Mark) {
	rows := screen.Table{Columns: []string{"MARK", "UPLINK", "GUARDS", "IPV4", "IPV6"}, Free: true}
	for _, m := range list {
		rows.Row(m.Mark, m.Uplink, word(m.Guarded, "stand", "MISSING"), m.way(fwmark.IPv4),
			m.way(fwmark.IPv6)+word(m.Full, " (of a full tunnel)", "")+m.kept())
	}
	t.table(rows, len(list))
}

// way is where packets to the world go in a family.
func (m Mark) way(f fwmark.Family) string {
	switch {
	case m.astray[f]:
		return "ASTRAY" // the second lock may hold it
	case f == fwmark.IPv4 && m.Routed4, f == fwmark.IPv6 && m.Routed6:
		return "routed"
	}
	return "refused"
}

func (t *page) services(list []Service) {
	rows := screen.Table{Columns: []string{"SERVICE", "UPLINK", "MARK", "CGROUP"}, Free: true}
	for _, c := range list {
		state := word(c.Pinned, "pinned", "NOT PINNED") + c.how()
		if c.Pinned && c.Refused {
			state = "REFUSED: its uplink's mark cannot be read"
		}
		if !c.Exists {
			state = "(absent)"
		}
		rows.Row(c.Cgroup, c.Uplink, c.Mark, state)
	}
	t.table(rows, len(list))
}

// uplinks writes a row for each family of an uplink, and below it the other
// addresses.
func (t *page) uplinks(list []Uplink) {
	rows := screen.Table{Columns: []string{"UPLINK", "STATE", "IP", "ADDRESS", "GATEWAY", "TABLE"}}
	for _, u := range list {
		number := ""
		if u.Table != 0 {
			number = fmt.Sprint(u.Table)
		}
		address := u.Address
		if u.Leased {
			address += " (lease)"
		}
		rows.Row(u.Name, u.State, fmt.Sprint(u.Family), address, u.Gateway, number)
		for _, a := range u.Others {
			rows.Row("", "", fmt.Sprint(u.Family), a, "", "")
		}
	}
	t.table(rows, len(list))
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
	if m.Refuses != "" {
		return " (refuses what " + m.Refuses + " pins: its mark cannot be read)"
	}
	return word(m.Kept, " (kept as it stands)", "")
}

func (s Status) writeLock(t *page) {
	locks := slices.DeleteFunc(slices.Clone(s.Locks), func(l Lock) bool { return l.Dropped == 0 })
	rows := screen.Table{Columns: []string{"SECOND LOCK", "DROPPED", "LIKELY CAUSE"}, Free: true}
	for _, l := range locks {
		rows.Row(l.Mark, fmt.Sprint(l.Dropped), l.Cause)
	}
	t.table(rows, len(locks))
	t.list("ROUTES THAT THE SECOND LOCK DOES NOT KNOW, and drops until watch or sync has run", s.Held)
	t.list(fmt.Sprintf("PRIVATE DESTINATIONS ALONE PASS THE SECOND LOCK, as there are more than %d prefixes", nft.MaxRanges), s.Outside)
	t.list("SETS WITH ELEMENTS OF OTHERS, as by NFTSet=, whose packets are marked", s.Elements)
	t.list("SETS WITHOUT ELEMENTS, of marks that pin nothing else; what NFTSet= puts there comes with the unit's next start", s.EmptySets)
	if s.OtherMarks > 0 {
		t.list("MARKS OF OTHER SOFTWARE IN OUR BITS", []string{fmt.Sprintf("%d packets or connections had one, and were left alone: give our marks a mask", s.OtherMarks)})
	}
}

// page is a status that is being written.
type page struct {
	at    screen.Screen
	b     strings.Builder
	parts int
}

// part sets a part off from the one before it.
func (t *page) part() {
	if t.parts > 0 {
		t.b.WriteString("\n")
	}
	t.parts++
}

// table writes one that has rows.
func (t *page) table(rows screen.Table, n int) {
	if n > 0 {
		t.part()
		t.b.WriteString(rows.Text(t.at))
	}
}

func (t *page) list(title string, lines []string) {
	if len(lines) == 0 {
		return
	}
	t.part()
	t.b.WriteString(t.at.Paint(screen.Title, t.at.Fill(title+":", 2)) + "\n")
	for _, l := range lines {
		t.b.WriteString(t.at.Fill("  "+l, 4) + "\n")
	}
}

func word(is bool, yes, no string) string {
	if is {
		return yes
	}
	return no
}
