package decide

import "wg-multihome/policy"

// Nothing decides that nothing of ours is to stand. An error in the
// configuration keeps nothing.
func Nothing(o Observation, m Memory) Decision {
	d := observed(o, m)
	d.scope = nothing
	// Marks of the configuration too: others may have deleted their guards.
	for _, in := range d.Config.Intents {
		if !in.Mark.IsZero() {
			d.ended = append(d.ended, in.Mark)
		}
	}
	d.findSockets()
	d.Rules = policy.Want(d.Facts, nil, nil, policy.DefaultPriority)
	d.Locks = d.lockFacts(nil)
	return d
}
