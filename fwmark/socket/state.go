package socket

import (
	"slices"

	"wg-multihome/fwmark"
)

// State is what stands on cgroups, as far as they were asked.
type State struct {
	// Cgroups has, by its path below the cgroup2 mount, each cgroup that was asked
	// and is there. Those above a listed one are among them, "" is the mount's own.
	Cgroups map[string]Cgroup

	// Refused says why the kernel lets us attach nothing at all, or tell what is
	// attached.
	Refused *Refusal
}

// Cgroup is what stands on one.
type Cgroup struct {
	Places [len(Places)]Standing // by Place

	// First are programs of others that are called before ours when a socket is
	// made, or would be: one that sets a mark wins over ours. Not asked where the
	// cgroup has neither programs of ours nor is to have any.
	First []Attached
}

// Standing is what is attached to a cgroup at one place, to itself and not above
// it.
type Standing struct {
	Programs []Attached // in the order in which they are called
	Multi    bool       // they allow others beside them, and below (BPF_F_ALLOW_MULTI)
}

// Attached is a program that is attached somewhere.
type Attached struct {
	ID   uint32 // the kernel's, for as long as the program is there
	Name string // "" where its maker gave it none
}

// Mark returns the mark that a program of ours gives. ours is false for others'.
func (a Attached) Mark() (m fwmark.Mark, ours bool) { return markOf(a.Name) }

// Ours returns those of the programs that are ours.
func (s Standing) Ours() []Attached {
	return slices.DeleteFunc(slices.Clone(s.Programs), func(a Attached) bool {
		_, ours := a.Mark()
		return !ours
	})
}

// Marks returns the marks that programs of ours on a cgroup have, sorted. Of one
// that is neither being changed nor was left so it is one mark, or none.
func (c Cgroup) Marks() []fwmark.Mark {
	var marks []fwmark.Mark
	for _, s := range c.Places {
		for _, a := range s.Programs {
			if m, ours := a.Mark(); ours {
				marks = append(marks, m)
			}
		}
	}
	slices.SortFunc(marks, fwmark.Mark.Compare)
	return slices.Compact(marks)
}

// gives reports whether every socket that is made in a cgroup, or connects, meets a
// program of ours on the cgroup itself.
func (c Cgroup) gives() bool {
	return !slices.ContainsFunc([]Place{Create, Connect4, Connect6}, func(p Place) bool { return len(c.Places[p].Ours()) == 0 })
}

// Complete reports whether a cgroup has the programs of a mark, whole and alone.
func (c Cgroup) Complete(m fwmark.Mark) bool {
	for _, place := range Places {
		ours := c.Places[place].Ours()
		if len(ours) != 1 || ours[0].Name != ProgramFor(place, m).Name() {
			return false
		}
	}
	return true
}
