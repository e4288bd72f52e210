package socket

import (
	"fmt"
	"path"
)

// Reason is why a cgroup cannot have our programs, and its packets are marked
// instead. What is no such reason is an error.
type Reason uint8

// The reasons.
const (
	// Denied: this process may not (EPERM): it lacks the capabilities, or is in a
	// user namespace.
	Denied Reason = iota + 1
	// NoBPF: there is no bpf(2), or a seccomp filter says so (ENOSYS).
	NoBPF
	// NoCgroups: even a program that does nothing is refused (EINVAL): the kernel
	// was built without CONFIG_CGROUP_BPF.
	NoCgroups
	// Exclusive: a program of others, on the cgroup or above it, allows none
	// beside it.
	Exclusive
)

// String says it in a few words.
func (r Reason) String() string {
	switch r {
	case Denied:
		return "bpf(2) is not permitted"
	case NoBPF:
		return "there is no bpf(2)"
	case NoCgroups:
		return "this kernel has no BPF for cgroups (CONFIG_CGROUP_BPF)"
	case Exclusive:
		return "a program of others allows none beside it"
	}
	return "unknown"
}

// Refusal is a reason, and what it was met at.
type Refusal struct {
	Reason Reason

	// Of Exclusive: the program, where it is known, and the cgroup and place that
	// it is attached to.
	Program Attached
	Cgroup  string // "" is the mount's own
	Place   Place

	Err error // what the kernel said, if it was asked
}

// Error says it on one line.
func (r *Refusal) Error() string {
	if r.Reason == Exclusive && r.Program.ID == 0 {
		return fmt.Sprintf("%s: at %s of cgroup /%s, or above it", r.Reason, r.Place, r.Cgroup)
	}
	if r.Reason == Exclusive {
		name := r.Program.Name
		if name == "" {
			name = "without a name"
		}
		return fmt.Sprintf("%s: %s (id %d) at %s of cgroup /%s", r.Reason, name, r.Program.ID, r.Place, r.Cgroup)
	}
	if r.Err == nil {
		return r.Reason.String()
	}
	return fmt.Sprintf("%s: %v", r.Reason, r.Err)
}

func (r *Refusal) Unwrap() error { return r.Err }

// Refusal tells why a cgroup cannot have our programs, from what stands there and
// above it; nil if it can. All programs at a place of a cgroup are attached in the
// same way, and of those above it the nearest count (hierarchy_allows_attach). One
// above that only lets others take its place would not be called any more: the
// kernel would allow that, and we do not do it.
func (s State) Refusal(cgroup string) *Refusal {
	if s.Refused != nil {
		return s.Refused
	}
	for _, place := range Places {
		if at := s.Cgroups[cgroup].Places[place]; len(at.Programs) > 0 && !at.Multi {
			return &Refusal{Reason: Exclusive, Program: at.Programs[0], Cgroup: cgroup, Place: place}
		}
		for above := cgroup; above != ""; {
			above = Above(above)
			at := s.Cgroups[above].Places[place]
			if len(at.Programs) == 0 {
				continue
			}
			if !at.Multi {
				return &Refusal{Reason: Exclusive, Program: at.Programs[0], Cgroup: above, Place: place}
			}
			break
		}
	}
	return nil
}

// Above returns the cgroup right above one: "" for those right below the mount.
func Above(cgroup string) string {
	if dir := path.Dir(cgroup); dir != "." {
		return dir
	}
	return ""
}

// within reports whether a cgroup is another one, or lies below it.
func within(cgroup, other string) bool {
	return cgroup == other || other == "" || len(cgroup) > len(other) && cgroup[len(other)] == '/' && cgroup[:len(other)] == other
}
