package decide

import (
	"maps"
	"slices"

	"wg-multihome/cmd/internal/state"
	"wg-multihome/nft"
	"wg-multihome/policy"
)

// After returns what is observed once steps were made, if nothing else happens
// meanwhile.
func (o Observation) After(steps []Step) Observation {
	var rules []policy.Step
	for _, s := range steps {
		switch s := s.(type) {
		case RuleStep:
			rules = append(rules, s.Step)
		case TableStep:
			o.Table.Have = nft.After(s.Have, s.Want)
		case DeviceStep:
			o.Devices.Found = slices.Clone(o.Devices.Found)
			for i := range o.Devices.Found {
				if d := &o.Devices.Found[i]; d.Name == s.Device {
					d.Mark = s.Mark
				}
			}
		case SocketStep, SocketMove, SocketGone:
			o.Sockets = o.Sockets.after(s)
		case SysctlStep:
			o.Sysctls = o.Sysctls.after(s.Sysctl)
		case SysctlGone:
			o.Sysctls.Ours = maps.Clone(o.Sysctls.Ours)
			delete(o.Sysctls.Ours, s.Device)
		}
	}
	if len(rules) > 0 {
		after := policy.StateAfter(policy.State{Rules: o.Facts.Rules, Routes: o.Facts.Routes}, rules)
		o.Facts.Rules, o.Facts.Routes = after.Rules, after.Routes
		o.Facts.Links = policy.LinksAfter(o.Facts.Links, rules)
	}
	return o
}

func (s Sockets) after(step Step) Sockets {
	switch step := step.(type) {
	case SocketStep:
		s.Have = s.Have.After(step.Step)
		s.Noted = step.Done(step.Note(s.Noted))
	case SocketMove:
		s.Noted = step.Note(s.Noted).DropMark(step.From)
	case SocketGone:
		s.Noted = s.Noted.Drop(step.Cgroups...)
	}
	return s
}

// Note is what is noted before a step: what may have programs and marks from now on.
func (s SocketStep) Note(noted state.Sockets) state.Sockets {
	for _, m := range s.Along {
		noted = m.Note(noted)
	}
	if s.Mark.IsZero() {
		return noted
	}
	return noted.Add(s.Cgroup, s.Mark, s.Uplink)
}

// Done is what is noted after it.
func (s SocketStep) Done(noted state.Sockets) state.Sockets {
	if s.Mark.IsZero() {
		return noted.Drop(s.Cgroup)
	}
	return noted
}

// Note is what is noted before a step: that sockets may have the new number.
func (s SocketMove) Note(noted state.Sockets) state.Sockets {
	if s.To.IsZero() {
		return noted
	}
	return noted.AddMark(s.To, s.Uplink)
}

func (s Sysctls) after(step nft.Sysctl) Sysctls {
	s.Filters, s.Ours = slices.Clone(s.Filters), maps.Clone(s.Ours)
	if s.Ours == nil {
		s.Ours = map[string]bool{}
	}
	for i := range s.Filters {
		if f := &s.Filters[i]; f.Device == step.Device {
			f.ValidMark, f.Ours = step.Value, step.Value != 0
		}
	}
	if step.Value != 0 {
		s.Ours[step.Device] = true
	} else {
		delete(s.Ours, step.Device)
	}
	return s
}

// After returns what a run remembers once steps were made.
func (m Memory) After(steps []Step) Memory {
	for _, s := range steps {
		switch s := s.(type) {
		case ForgetStep:
			m.Forgotten = with(m.Forgotten, s.Mark)
		case SocketStep:
			for _, along := range s.Along {
				m.Renumbered = without(m.Renumbered, along.To)
			}
			m.Renumbered = without(m.Renumbered, s.Mark)
		case ForgetSourceStep:
			m.SourcesForgotten = with(m.SourcesForgotten, s.Address)
		case SocketMove:
			m.Renumbered = without(with(m.Renumbered, s.From), s.To)
		}
	}
	return m
}

func without[K comparable](set map[K]bool, key K) map[K]bool {
	set = maps.Clone(set)
	delete(set, key)
	return set
}

func with[K comparable](set map[K]bool, key K) map[K]bool {
	set = maps.Clone(set)
	if set == nil {
		set = map[K]bool{}
	}
	set[key] = true
	return set
}

// Recognised adds the original shell script's rules that a decision has
// recognised.
func (m Memory) Recognised(d Decision) Memory {
	for _, r := range d.Rules.Have.Rules {
		if !r.Ours() && !slices.Contains(m.ScriptRules, r) {
			m.ScriptRules = append(slices.Clone(m.ScriptRules), r)
		}
	}
	return m
}

// Rounds bounds how often a run goes through the phases: others may be at work
// on the same rules.
const Rounds = 5

// Plan returns the steps from what stands to what is wanted, as text and in the
// order in which they would be made.
func (d Decision) Plan() []string {
	lines := []string{}
	for range Rounds {
		made := false
		for _, p := range Phases {
			steps := d.Steps(p)
			if len(steps) == 0 {
				continue
			}
			made = true
			for _, s := range steps {
				lines = append(lines, s.Lines()...)
			}
			d = d.after(steps)
		}
		if !made {
			break
		}
	}
	return lines
}

// after returns the same decision about what is observed once steps were made.
func (d Decision) after(steps []Step) Decision {
	o, m := d.Observation.After(steps), d.memory.Recognised(d).After(steps)
	switch d.scope {
	case nothing:
		return Nothing(o, m)
	case called:
		return ForCall(o, m, d.call)
	}
	return Decide(o, m)
}
