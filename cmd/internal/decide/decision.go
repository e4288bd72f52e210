package decide

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/netip"
	"slices"

	"wg-multihome/fwmark"
	"wg-multihome/fwmark/socket"
	"wg-multihome/nft"
	"wg-multihome/policy"
)

// Memory is what a run remembers from one decision to the next, and what it may
// do. It ends with the run.
type Memory struct {
	// Person says that a person asked for this: only then go guards of marks
	// that are configured no longer.
	Person bool

	// ScriptRules are the original shell script's rules that were recognised: once
	// some of them are deleted, the rest would look like a stranger's.
	ScriptRules []policy.Rule

	// Renumbered are the marks that no socket has any more: each got another
	// number, and was given to none since.
	Renumbered map[fwmark.Mark]bool

	// Forgotten are the marks whose connections conntrack has forgotten, and
	// SourcesForgotten the addresses.
	Forgotten        map[fwmark.Mark]bool
	SourcesForgotten map[netip.Addr]bool
}

// Decision is what a host is to be like, and by what that was decided.
type Decision struct {
	Observation

	Uplinks  []fwmark.Uplink
	Pins     []fwmark.Pin
	Tunnels  []fwmark.Tunnel  // those of the devices that are full tunnels
	Problems []fwmark.Problem // errors in the configuration
	Rules    policy.Wanted    // rules and routes
	Locks    nft.Facts        // what the table is made from
	Errs     []error          // what could not be read, or cannot be had

	memory Memory
	stands []fwmark.Claim           // the marks that stand: by their guards, or by the second lock alone
	moving map[fwmark.Mark]bool     // marks that nothing may leave by as yet
	leads  map[fwmark.Mark][]string // where marks that have a look-up lead
	fresh  []fwmark.Mark            // marks that come, and whose number conntrack may remember
	ended  []fwmark.Mark            // marks that are to be nobody's, whether guards stand or not

	running    []fwmark.Pin           // marks that connections go on with, and that nothing is pinned by any more
	outlived   []fwmark.Claim         // marks that are configured no longer, and that processes of `run` have
	marked     socket.Want            // which services are marked by socket
	renumbered []renumbered           // marks that sockets are to lose
	aside      map[fwmark.Mark]string // numbers for the time between, and the uplinks whose sockets have them
	scope      scope
	call       Call // of scope called
}

// scope is how much of the host a decision is about.
type scope uint8

const (
	whole   scope = iota
	nothing       // nothing of ours is to stand
	called        // by the original shell script's hooks: it keeps rules and routes
	refused       // the same, and what it says is not what is configured
)

// Lean returns the decision without what is wanted of rules, routes and the table: of
// thousands of addresses that takes as much memory as all that was observed.
func (d Decision) Lean() Decision {
	d.Rules, d.Locks = policy.Wanted{}, nft.Facts{}
	return d
}

// Decide says what the host is to be like.
func Decide(o Observation, m Memory) Decision {
	return observed(o, m).wanted()
}

// wanted goes on with a decision.
func (d Decision) wanted() Decision {
	d.findPins()
	d.findSockets()
	d.findMoving()
	d.Rules = policy.Want(d.Facts, d.Uplinks, d.placed(), d.Config.Priority)
	d.Locks = d.lockFacts(d.placed())
	d.Errs = append(d.Errs, d.Rules.Errs...)
	d.Errs = append(d.Errs, d.missing()...)
	d.Errs = append(d.Errs, d.strangers()...)
	return d
}

// observed begins a decision with what was observed and what the run remembers.
func observed(o Observation, m Memory) Decision {
	d := Decision{Observation: o, memory: m, Errs: o.Errors()}
	d.Facts.Leases = o.leases()
	d.Facts.ScriptRules = m.ScriptRules
	d.Facts.Group = d.Config.Group
	d.Tunnels = policy.Tunnels(d.Facts, o.deviceMarks())
	d.stands = d.standing()
	return d
}

// findPins decides which uplinks and pins there are. The configuration may show
// its error only against the uplinks, or against what stands; then it is asked
// again, with what stands counted in.
func (d *Decision) findPins() {
	intents, problems := d.intents()
	var errs []error
	for _, broken := range []bool{len(problems) > 0, true} {
		d.Uplinks, errs = policy.Uplinks(d.Facts, intents, broken)
		d.Pins, d.Problems = fwmark.Resolve(intents, problems, d.stands, d.tables(), d.Tunnels)
		if !broken && len(d.Problems) == 0 && !d.memory.Person {
			d.Problems = d.configuredNoLonger()
			problems = d.Problems
		}
		if broken || len(d.Problems) == 0 {
			break
		}
	}
	if len(d.Problems) > 0 {
		d.keepListed()
		d.keepDevices()
	}
	d.holdOutlived()
	d.holdRunning()
	d.Errs = append(d.Errs, errs...)
}

// configuredNoLonger names what stands and is configured no longer: a file that
// an editor has away for a moment, or a caller with another --config, takes
// nobody's guards away.
func (d *Decision) configuredNoLonger() []fwmark.Problem {
	const advice = "is kept until a person calls `wg-multihome sync` or `down`"
	var problems []fwmark.Problem
	for _, c := range d.stands {
		if (!d.pinned(c.Mark) || d.Outlived(c.Mark)) && !c.Full {
			problems = append(problems, fwmark.Problem{Text: fmt.Sprintf("mark %s is configured no longer, and %s", owned(c), advice)})
		}
	}
	for _, id := range slices.Sorted(maps.Keys(d.Cgroups.Unlisted)) {
		problems = append(problems, fwmark.Problem{Text: fmt.Sprintf("cgroup %q is pinned, but configured no longer, and %s", d.Cgroups.Unlisted[id], advice)})
	}
	for _, path := range d.markedNoLonger() {
		problems = append(problems, fwmark.Problem{Text: fmt.Sprintf("cgroup %q is pinned, but configured no longer, and %s", path, advice)})
	}
	return problems
}

func owned(c fwmark.Claim) string {
	if c.Uplink == "" {
		return c.Mark.String()
	}
	return fmt.Sprintf("%s of uplink %q", c.Mark, c.Uplink)
}

// standing returns the marks that stand. Others may have deleted a mark's rules;
// then the second lock still tells of it. It gets its place last of all: where
// it names an uplink, a look-up that leads to another one is left over.
func (d *Decision) standing() []fwmark.Claim {
	standing := policy.Standing(d.Facts)
	for _, c := range d.Table.Have.Claims() {
		i := slices.IndexFunc(standing, func(s fwmark.Claim) bool { return s.Mark == c.Mark })
		if i < 0 {
			standing = append(standing, c)
			continue
		}
		standing[i].Full = c.Full
		if c.Uplink != "" {
			standing[i].Uplink = c.Uplink
		}
	}
	return standing
}

// tables returns the tables of the uplinks' addresses.
func (d *Decision) tables() map[uint32]netip.Addr {
	tables := map[uint32]netip.Addr{}
	for _, u := range d.Uplinks {
		for _, a := range u.Addrs {
			tables[policy.TableOf(a)] = a
		}
		for _, f := range fwmark.Families {
			if u.Twin[f] {
				tables[policy.MarkTable(u, f)] = u.Address[f]
			}
		}
	}
	return tables
}

func (d *Decision) pinned(m fwmark.Mark) bool {
	return slices.ContainsFunc(d.Pins, func(p fwmark.Pin) bool { return p.Mark == m })
}

// missing says that services cannot be pinned for what the kernel lacks.
func (d *Decision) missing() []error {
	pinsServices := slices.ContainsFunc(d.packetPins(d.Pins), func(p fwmark.Pin) bool { return len(p.Cgroups) > 0 })
	if err := d.Table.Missing; err != nil && pinsServices && !errors.Is(err, fs.ErrPermission) {
		return []error{fmt.Errorf("services cannot be pinned: %w", err)}
	}
	return nil
}

// Guarded reports whether a mark's guards, ours, stand.
func (d Decision) Guarded(m fwmark.Mark) bool { return policy.Guarded(d.Facts, m) }

// going returns the marks that stand and are pinned no longer.
func (d Decision) going() []fwmark.Mark {
	going := slices.Clone(d.ended)
	for _, c := range d.stands {
		if !d.pinned(c.Mark) && !slices.Contains(going, c.Mark) {
			going = append(going, c.Mark)
		}
	}
	return going
}
