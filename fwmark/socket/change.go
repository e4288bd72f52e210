package socket

import (
	"fmt"
	"slices"

	"wg-multihome/fwmark"
)

// Kind is what a Change does.
type Kind uint8

// The kinds.
const (
	Attach  Kind = iota // the program of a mark, behind those that are there
	Replace             // Old by the program of a mark, in one step
	Only                // detach all of ours, but for one program of the mark; of no mark: all
	Give                // marks to the sockets that there are
)

// Change is one call at a cgroup. A run may be killed after any.
type Change struct {
	Kind   Kind
	Place  Place
	Mark   fwmark.Mark // zero only with Only
	Again  bool        // Attach: the same program is there already, so it is loaded once more
	Old    Attached    // Replace
	Remark Remark      // Give
}

// String says what it does, in a few words.
func (c Change) String() string {
	switch {
	case c.Kind == Attach && c.Again:
		return fmt.Sprintf("attach %s %s again", c.Place, c.Mark)
	case c.Kind == Attach:
		return fmt.Sprintf("attach %s %s", c.Place, c.Mark)
	case c.Kind == Replace:
		return fmt.Sprintf("replace %s by %s", c.Place, c.Mark)
	case c.Kind == Give:
		return "give"
	case c.Mark.IsZero():
		return fmt.Sprintf("detach %s", c.Place)
	}
	return fmt.Sprintf("detach %s but for one %s", c.Place, c.Mark)
}

// changes returns the way of a cgroup to the programs of a mark; zero is none.
//
// That its older sockets are still to be seen to must outlive a kill. It shows at
// Listen, where ours are harmless whatever is attached besides: as long as
// something of ours stands there besides the mark's one program, it is to be done.
// A mark that comes stands there twice at first; one that goes stays there until
// its sockets were seen to, beside its successor.
//
// Before any program gives a mark, one at Listen takes it off servers; no mark is
// given any more when that one goes.
func changes(c Cgroup, m fwmark.Mark, r Remark) []Change {
	give := Change{Kind: Give, Remark: r}
	if m.IsZero() {
		return append(none(c), give, Change{Kind: Only, Place: Listen})
	}
	list := listening(c.Places[Listen].Ours(), m)
	for _, place := range Places {
		if place != Listen {
			list = append(list, giving(place, c.Places[place].Ours(), m)...)
		}
	}
	return append(list, give, Change{Kind: Only, Place: Listen, Mark: m})
}

// has reports whether a cgroup has the programs of a mark alone; zero is none.
func (c Cgroup) has(m fwmark.Mark) bool {
	if m.IsZero() {
		return len(c.Marks()) == 0
	}
	return c.Complete(m)
}

// none detaches what gives marks, the last that was attached first.
func none(c Cgroup) []Change {
	var list []Change
	for _, place := range slices.Backward(Places[:]) {
		if place != Listen && len(c.Places[place].Ours()) > 0 {
			list = append(list, Change{Kind: Only, Place: place})
		}
	}
	return list
}

// listening has the mark's program stand at Listen, and another one beside it.
func listening(ours []Attached, m fwmark.Mark) []Change {
	var list []Change
	n, name := len(ours), ProgramFor(Listen, m).Name()
	if !slices.ContainsFunc(ours, func(a Attached) bool { return a.Name == name }) {
		list, n = append(list, Change{Kind: Attach, Place: Listen, Mark: m}), n+1
	}
	if n < 2 {
		list = append(list, Change{Kind: Attach, Place: Listen, Mark: m, Again: true})
	}
	return list
}

// giving has the mark's program stand alone at a place.
func giving(place Place, ours []Attached, m fwmark.Mark) []Change {
	name := ProgramFor(place, m).Name()
	var list []Change
	switch {
	case len(ours) == 0:
		return []Change{{Kind: Attach, Place: place, Mark: m}}
	case !slices.ContainsFunc(ours, func(a Attached) bool { return a.Name == name }):
		list = append(list, Change{Kind: Replace, Place: place, Mark: m, Old: ours[0]})
	}
	if len(ours) > 1 {
		list = append(list, Change{Kind: Only, Place: place, Mark: m})
	}
	return list
}

// After returns the cgroup once a change was made, as reading it would tell. Which
// ids new programs have nobody knows: they get some that are not taken.
func (c Cgroup) After(change Change) Cgroup {
	if change.Kind == Give {
		return c
	}
	at := &c.Places[change.Place] // c is a copy; what its slices lead to is not
	at.Programs = slices.Clone(at.Programs)
	var name string
	if !change.Mark.IsZero() {
		name = ProgramFor(change.Place, change.Mark).Name()
	}
	switch change.Kind {
	case Attach:
		at.Programs, at.Multi = append(at.Programs, Attached{ID: c.freeID(), Name: name}), true
	case Replace:
		if i := slices.Index(at.Programs, change.Old); i >= 0 {
			at.Programs[i] = Attached{ID: c.freeID(), Name: name}
		}
	case Only:
		kept := false
		at.Programs = slices.DeleteFunc(at.Programs, func(a Attached) bool {
			if _, ours := a.Mark(); !ours {
				return false
			}
			if !kept && a.Name == name {
				kept = true
				return false
			}
			return true
		})
		at.Multi = at.Multi && len(at.Programs) > 0
	}
	return c
}

func (c Cgroup) freeID() uint32 {
	id := uint32(0)
	for _, s := range c.Places {
		for _, a := range s.Programs {
			id = max(id, a.ID)
		}
	}
	return id + 1
}
