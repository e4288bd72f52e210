package socket

import (
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"wg-multihome/fwmark"
)

var (
	cgroups = []string{"a", "a/b", "a/b/c", "a/x", "d", "d/e"}
	marks   = []fwmark.Mark{
		{Value: 0x2005, Mask: fwmark.FullMask}, {Value: 0x3000, Mask: 0xff00}, {Value: 0x3000, Mask: 0xfff00}, {Value: 0x80000001, Mask: fwmark.FullMask},
	}
	uplinks = []string{"up1", "up2"}
)

// anyFacts is another configuration of the same host.
func anyFacts(t *rapid.T, have State) Facts {
	f := Facts{Have: have, Packets: map[fwmark.Mark]bool{}, Owners: map[fwmark.Mark]string{}, Unguarded: map[fwmark.Mark]bool{}}
	pins := map[fwmark.Mark]*fwmark.Pin{}
	for _, m := range marks {
		f.Packets[m] = rapid.IntRange(0, 4).Draw(t, "packet") == 0
		f.Unguarded[m] = rapid.IntRange(0, 4).Draw(t, "unguarded") == 0
		if rapid.Bool().Draw(t, "stands") {
			f.Owners[m] = rapid.SampledFrom(uplinks).Draw(t, "owner")
		}
		if rapid.Bool().Draw(t, "pin") {
			f.Pins = append(f.Pins, fwmark.Pin{Mark: m, Uplink: rapid.SampledFrom(uplinks).Draw(t, "uplink")})
		}
	}
	for i := range f.Pins {
		pins[f.Pins[i].Mark] = &f.Pins[i]
	}
	for _, cgroup := range cgroups {
		if m := rapid.SampledFrom(marks).Draw(t, "mark of "+cgroup); pins[m] != nil {
			pins[m].Cgroups = append(pins[m].Cgroups, cgroup)
		}
	}
	f.Broken = rapid.IntRange(0, 5).Draw(t, "broken") == 0
	return f
}

// anyHost has the cgroups, and programs of others on some.
func anyHost(t *rapid.T) State {
	s := State{Cgroups: map[string]Cgroup{"": {}}}
	for _, cgroup := range cgroups {
		var c Cgroup
		if rapid.IntRange(0, 3).Draw(t, "foreign") == 0 {
			at := &c.Places[rapid.SampledFrom(Places[:]).Draw(t, "place")]
			at.Programs, at.Multi = []Attached{{ID: 900, Name: "sd_x"}}, rapid.IntRange(0, 3).Draw(t, "multi") > 0
		}
		s.Cgroups[cgroup] = c
	}
	return s
}

// checked makes a step up to some change, as if it was killed there, and checks
// what stands after each. owed are the cgroups whose sockets are to be seen to.
func checked(t *rapid.T, s State, step Step, owed map[string]bool, upTo int) State {
	for _, change := range step.Changes[:upTo] {
		before := s.Cgroups[step.Cgroup]
		s = s.After(Step{Cgroup: step.Cgroup, Changes: []Change{change}})
		c := s.Cgroups[step.Cgroup]
		switch {
		case change.Kind == Give:
			delete(owed, step.Cgroup)
		case change.Place == Create && !slices.Equal(marksAt(before, Create), marksAt(c, Create)):
			owed[step.Cgroup] = true
		}
		for _, place := range []Place{Connect6, Connect4, Create} {
			for _, m := range marksAt(c, place) {
				if !slices.Contains(marksAt(c, Listen), m) {
					t.Fatalf("after %+v of %v: %s gives %s, and nothing takes it from servers", change, step.Lines(), place, m)
				}
			}
			if len(marksAt(c, place)) == 0 && len(marksAt(before, place)) > 0 && !step.Mark.IsZero() {
				t.Fatalf("after %+v of %v: nothing gives a mark any more", change, step.Lines())
			}
		}
		for _, m := range append(slices.Clone(marks), fwmark.Mark{}) {
			if owed[step.Cgroup] && c.has(m) {
				t.Fatalf("after %+v of %v: all seems done, and the sockets were not seen to", change, step.Lines())
			}
		}
		if !slices.Equal(foreign(before), foreign(c)) {
			t.Fatalf("%+v of %v changes what is not ours", change, step.Lines())
		}
	}
	return s
}

func marksAt(c Cgroup, place Place) []fwmark.Mark {
	var only Cgroup
	only.Places[place] = c.Places[place]
	return only.Marks()
}

func foreign(c Cgroup) []Attached {
	var list []Attached
	for _, s := range c.Places {
		for _, a := range s.Programs {
			if _, ours := a.Mark(); !ours {
				list = append(list, a)
			}
		}
	}
	return list
}

// TestKilledRuns goes from one configuration to the next, and some runs are killed.
// Each prefix of the changes keeps the promise, and a run that is not killed leaves
// nothing to do.
func TestKilledRuns(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s, owed := anyHost(t), map[string]bool{}
		for range rapid.IntRange(1, 6).Draw(t, "runs") {
			f, before := anyFacts(t, s), s
			w := Decide(f)
			killed := rapid.Bool().Draw(t, "killed")
			for _, step := range Diff(s, w) {
				if killed && rapid.Bool().Draw(t, "here") {
					s = checked(t, s, step, owed, rapid.IntRange(0, len(step.Changes)).Draw(t, "changes"))
					break
				}
				s = checked(t, s, step, owed, len(step.Changes))
			}
			f.Have = s
			if again := Decide(f); !killed {
				if left := Diff(s, again); len(left) > 0 {
					t.Fatalf("left to do: %v", left[0].Lines())
				}
				checkEnd(t, f, again, owed)
				checkNested(t, before, f, w)
			}
		}
	})
}

// checkEnd checks what stands after a whole run.
func checkEnd(t *rapid.T, f Facts, w Want, owed map[string]bool) {
	for cgroup, c := range f.Have.Cgroups {
		m, target := w.Targets[cgroup]
		if owed[cgroup] && !w.Held[cgroup] {
			t.Fatalf("the sockets of %s were not seen to", cgroup)
		}
		if target && !c.Complete(m) || !target && !w.Held[cgroup] && len(c.Marks()) > 0 {
			t.Fatalf("%s has %v, wanted %s", cgroup, c.Marks(), m)
		}
	}
	// The deepest wins: no cgroup that is marked by packet has a socket that is
	// marked for another uplink.
	for _, s := range w.Services {
		if s.Packet == nil {
			continue
		}
		for _, above := range w.Services {
			_, target := w.Targets[above.Cgroup]
			if target && above.Cgroup != s.Cgroup && within(s.Cgroup, above.Cgroup) && !sameUplink(f, s.Mark, above) {
				t.Fatalf("%s is marked by packet, and %s above it by socket", s.Cgroup, above.Cgroup)
			}
		}
	}
}

// checkNested checks that what has no programs of its own, as its guards are missing,
// gets no other uplink's mark from a cgroup above it that had none before.
func checkNested(t *rapid.T, before State, f Facts, w Want) {
	for _, s := range w.Services {
		for path := s.Cgroup; path != ""; {
			if f.Have.Cgroups[path].gives() {
				break
			}
			path = Above(path)
			m, target := w.Targets[path]
			of := slices.IndexFunc(w.Services, func(o Service) bool { return o.Cgroup == path })
			if target && s.Packet == nil && len(before.Cgroups[path].Marks()) == 0 && !sameUplink(f, s.Mark, w.Services[of]) {
				t.Fatalf("%s of %s has no programs, and %s above it got those of %s", s.Cgroup, s.Mark, path, m)
			}
		}
	}
}

// TestNext: what somebody else marked is left alone, and nobody's other bits change.
func TestNext(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := Remark{Was: rapid.SliceOfN(rapid.SampledFrom(marks), 0, 2).Draw(t, "was")}
		if rapid.Bool().Draw(t, "gets one") {
			r.To = rapid.SampledFrom(marks).Draw(t, "to")
		}
		r.Was = slices.DeleteFunc(r.Was, func(m fwmark.Mark) bool { return m == r.To })
		use := Use(rapid.IntRange(0, int(Accepted)).Draw(t, "use"))
		mark := rapid.OneOf(rapid.Uint32(), rapid.SampledFrom([]uint32{0, 0x2005, 0x3000, 0x13000, 0x80000001, 0x40000, 0x43000})).Draw(t, "mark")
		next := r.Next(mark, use)
		was := slices.ContainsFunc(r.Was, func(m fwmark.Mark) bool { return m.Selects(mark) })
		free := mark&r.To.Mask == 0
		switch {
		case (use == Connected || use == Accepted) && next != mark:
			t.Fatalf("connected: %#x becomes %#x", mark, next)
		case use == Listening && !was && next != mark:
			t.Fatalf("listening: %#x becomes %#x", mark, next)
		case !was && !free && next != mark:
			t.Fatalf("%#x is not ours, and becomes %#x", mark, next)
		case use == Unconnected && (was || free) && !r.To.IsZero() && !r.To.Selects(next):
			t.Fatalf("%#x becomes %#x, without %s", mark, next, r.To)
		case use == Unconnected && r.Next(next, use) != next && !slices.ContainsFunc(r.Was, func(m fwmark.Mark) bool { return m.Selects(next) }):
			t.Fatalf("%#x becomes %#x, and then %#x", mark, next, r.Next(next, use))
		}
	})
}

// TestMoves: all that has the old number gets the new one, and nothing else does.
func TestMoves(t *testing.T) {
	m := Move{From: marks[1], To: marks[0]}
	for mark, want := range map[uint32]uint32{0: 0, 0x3000: 0, 0x10003001: 0x10000001, 0x2005: 0x2005, 0x3100: 0x3100} {
		if got := m.Remark().Next(mark, Accepted); got != want {
			t.Errorf("accepted: %#x becomes %#x, want %#x", mark, got, want)
		}
	}
	for _, use := range []Use{Unconnected, Connected, Listening} {
		for mark, want := range map[uint32]uint32{0: 0, 0x3000: 0x2005, 0x10003001: 0x2005, 0x2005: 0x2005, 0x3100: 0x3100} {
			if got := m.Remark().Next(mark, use); got != want {
				t.Errorf("%#x becomes %#x, want %#x", mark, got, want)
			}
		}
	}
	f := Facts{
		Pins:   []fwmark.Pin{{Mark: marks[0], Uplink: "up1"}, {Mark: marks[3], Uplink: "up2", Full: true}},
		Owners: map[fwmark.Mark]string{marks[0]: "up1", marks[1]: "up1", marks[2]: "up2", marks[3]: ""},
	}
	if got := Decide(f).Moves; !slices.Equal(got, []Move{m}) {
		t.Errorf("%v, want %v", got, m)
	}
}

// TestByConnection: what is connected and has no mark gets that of its connection, or
// of its uplink; where conntrack does not know it, what its next packet would get.
func TestByConnection(t *testing.T) {
	other, old, gone := fwmark.Mark{Value: 0x1001, Mask: fwmark.FullMask}, fwmark.Mark{Value: 0x300, Mask: 0xff00}, fwmark.Mark{Value: 0x7, Mask: fwmark.FullMask}
	connections := []Move{{marks[0], marks[0]}, {other, other}, {old, marks[0]}, {From: gone}}
	unknown, served := Connection{}, Connection{Served: true}
	of := func(mark uint32) Connection { return Connection{Known: true, Mark: mark} }
	for _, c := range []struct {
		has        uint32
		connection Connection
		want       uint32
		isNotAsked bool
	}{
		{0, of(0x2005), 0x2005, false},
		{0, of(0x1001), 0x1001, false},
		{0, of(0x10300), 0x2005, false},
		{0, of(7), 0x2005, false},
		{0, of(0), 0, false},
		{0, of(0x99), 0, false},
		{0, unknown, 0x2005, false},
		{0, served, 0, false},
		{0x99, of(0x2005), 0x99, true},
	} {
		r := Remark{To: marks[0], ByPacket: true, Connections: connections}
		if asked := r.AsksConnection(c.has); asked == c.isNotAsked {
			t.Errorf("%+v: asked: %t", c, asked)
		} else if got := r.ByConnection(c.has, c.connection); asked && got != c.want {
			t.Errorf("%+v: %#x", c, got)
		}
	}
	for _, r := range []Remark{{To: marks[0]}, {To: marks[0], Connections: connections}, (Move{From: marks[0], To: marks[1]}).Remark()} {
		if r.AsksConnection(0) {
			t.Errorf("asked: %+v", r)
		}
	}
	// Under a mask nobody's other bits change.
	r := Remark{To: marks[1], ByPacket: true}
	if got := r.ByConnection(0x40001, unknown); got != 0x43001 {
		t.Errorf("%#x", got)
	}
}

// TestCarrying tells where a mark stands, in part too.
func TestCarrying(t *testing.T) {
	f := readFacts(t, "there a 0x2005\nthere b\npartly b connect4 0x2005\nthere c 0x2006")
	if got := f.Have.Carrying(marks[0]); !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("%v of %v", got, slices.Sorted(maps.Keys(f.Have.Cgroups)))
	}
}

// TestNextOfOverlappingMarks: a number that two marks select is that of the one with
// more bits, whichever comes first; nothing of it is left that would count as another
// program's.
func TestNextOfOverlappingMarks(t *testing.T) {
	masked, full := fwmark.Mark{Value: 0x200, Mask: 0xff00}, fwmark.Mark{Value: 0x201, Mask: fwmark.FullMask}
	to := fwmark.Mark{Value: 0x300, Mask: 0xff00}
	for _, was := range [][]fwmark.Mark{{masked, full}, {full, masked}} {
		r := Remark{Was: was}
		for mark, want := range map[uint32]uint32{0x201: 0, 0x202: 2} {
			if got := r.Next(mark, Unconnected); got != want {
				t.Errorf("was %v: %#x becomes %#x, want %#x", was, mark, got, want)
			}
		}
		r = Remark{Moves: []Move{{was[0], to}, {was[1], to}}}
		for mark, want := range map[uint32]uint32{0x201: 0x300, 0x202: 0x302} {
			if got := r.Next(mark, Connected); got != want {
				t.Errorf("move of %v: %#x becomes %#x, want %#x", was, mark, got, want)
			}
		}
	}
}
