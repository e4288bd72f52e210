package sim

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"syscall"

	"wg-multihome/nft"
)

// Done is what an operation that the kernel accepts returns.
const Done = syscall.Errno(0)

// Op is one operation, and the kernel's answer to it: a plan of ours, the plan
// that leads from what stands to what is wanted, or what others do.
type Op struct {
	Plan nft.Plan
	Want *nft.Ruleset

	Nft    string       // others' input for nft(8)
	Change func(*Table) // the same

	Errno syscall.Errno
}

// Scenario is operations, and what stands after them.
type Scenario struct {
	Name string
	Ops  []Op
	Text string // what stands then, a line for each thing
}

// Run runs the scenario on a kernel, and returns what stands then, as text.
// others does what others do; answered is called after each operation.
func (s Scenario) Run(k Kernel, others func(Op), answered func(Op, error)) (string, error) {
	for _, o := range s.Ops {
		if o.Nft != "" {
			others(o)
			continue
		}
		plan := o.Plan
		if o.Want != nil {
			have, err := k.Read()
			if err != nil {
				return "", err
			}
			plan = nft.Diff(have, *o.Want, nil)
		}
		answered(o, k.Apply(plan))
	}
	have, err := k.Read()
	return s.text(have), err
}

// Kernel is what a scenario runs on.
type Kernel interface {
	Read() (nft.State, error)
	Apply(nft.Plan) error
}

// text shows what stands, a line for each thing. A rule is shown by its own
// text where an operation has one with that fingerprint.
func (s Scenario) text(have nft.State) string {
	rules := map[string]string{"": "(not ours)"}
	for _, o := range s.Ops {
		chains := slices.Clone(o.Plan.Fill)
		if o.Want != nil {
			chains = o.Want.Chains
		}
		for _, c := range chains {
			for _, r := range c.Rules {
				rules[r.Fingerprint()] = r.String()
			}
		}
	}
	var b strings.Builder
	switch {
	case have.Dormant:
		b.WriteString("dormant table\n")
	case have.Exists:
		b.WriteString("table\n")
	}
	for _, name := range slices.Sorted(maps.Keys(have.Counters)) {
		fmt.Fprintf(&b, "counter %s %d\n", name, have.Counters[name])
	}
	for _, name := range slices.Sorted(maps.Keys(have.Sets)) {
		set := have.Sets[name]
		fmt.Fprintf(&b, "set %s %s", name, [...]string{"not ours", "cgroups", "prefixes", "askers", "answers"}[set.Type])
		if set.Type != nft.Cgroups && set.Type != 0 {
			fmt.Fprintf(&b, " %s", set.Family)
		}
		for _, id := range set.Cgroups {
			fmt.Fprintf(&b, " %d", id)
		}
		for _, r := range set.Ranges {
			fmt.Fprintf(&b, " %s", r)
		}
		b.WriteString("\n")
	}
	for _, name := range slices.Sorted(maps.Keys(have.Chains)) {
		c := have.Chains[name]
		fmt.Fprintf(&b, "chain %s", name)
		if c.Base != (nft.Base{}) {
			fmt.Fprintf(&b, " %s %s %d", c.Base.Type, c.Base.Hook, c.Base.Priority)
		}
		if len(c.Devices) > 0 {
			fmt.Fprintf(&b, " devices %s", strings.Join(c.Devices, " "))
		}
		b.WriteString("\n")
		for _, f := range c.Fingerprints {
			b.WriteString("\t" + rules[f] + "\n")
		}
	}
	return b.String()
}
