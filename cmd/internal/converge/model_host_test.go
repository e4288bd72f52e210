package converge

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"syscall"

	"wg-multihome/cmd/internal/decide"
	"wg-multihome/cmd/internal/state"
	"wg-multihome/fwmark"
	"wg-multihome/fwmark/config"
	"wg-multihome/fwmark/socket"
	"wg-multihome/nft"
	nftkernel "wg-multihome/nft/kernel"
	"wg-multihome/policy"
	"wg-multihome/policy/sim"
	"wg-multihome/wg"
)

// simulated is a host: what its kernel has, and what its configuration says.
type simulated struct {
	kernel  *sim.Kernel
	table   nft.Ruleset
	have    nft.State // of the table, as it reads
	rules   *nft.Way
	lacks   bool              // no nf_tables in this kernel
	devices map[string]uint32 // the WireGuard devices that are there, with their marks
	cgroups map[string]uint64 // ids of the services' cgroups that are there, by path
	lastID  uint64
	runs    map[string]bool   // the uplinks that commands of `run` live on; their slices are among the cgroups
	full    map[string]uint32 // the devices that wg-quick has made full tunnels, with their marks
	leases  map[string]state.Record
	flows   map[flow]bool // those that conntrack knows, and that a mark was given to

	programs map[string]socket.Cgroup // that stand on cgroups, by path
	sockets  map[aSocket]bool
	noted    state.Sockets
	whole    bool // a person's run looks at all cgroups

	config  configuration
	inForce *configuration // what a run has converged last, if it had no error
	faults  faults
	due     map[string]bool // devices that were noted as due, in this run

	steps   int
	refused string // the text of the step that is refused
	before  func() // called before each step

	// refusesRule is called when a rule or a route is about to be refused, and
	// says whether it may be.
	refusesRule func() bool

	lockRefused func() // called when the lock's part of the table is refused alone

	after func(what string) // called after each step
}

// faults are what goes wrong in one run.
type faults struct {
	kill   int             // the run ends before the step of this number; never: none
	refuse int             // the step of this number is refused, however often it is tried
	text   string          // so is the one that has this in its text, if any
	part   []nft.Part      // where that one is about the table: these parts alone are refused
	unread map[string]bool // devices that do not answer, and cgroups, or the table, that cannot be read
}

const never = -1

var noFaults = faults{kill: never, refuse: never}

// killed is what a run that is killed panics with.
type killed struct{}

var errSim = errors.New("refused by the model")

func newSimulated() *simulated {
	h := &simulated{
		kernel: sim.New(), devices: map[string]uint32{}, cgroups: map[string]uint64{}, leases: map[string]state.Record{},
		runs: map[string]bool{}, full: map[string]uint32{}, flows: map[flow]bool{}, programs: map[string]socket.Cgroup{}, sockets: map[aSocket]bool{}, config: configuration{uplinks: map[string]options{}, priority: 32752}, faults: noFaults,
	}
	h.setTable(nft.Ruleset{})
	for i := range wans {
		h.addWAN(i)
	}
	for _, name := range wireguards {
		h.addDevice(name, 0)
	}
	for _, path := range services {
		h.makeCgroup(path)
	}
	return h
}

// setTable has a ruleset stand in the table.
func (h *simulated) setTable(r nft.Ruleset) {
	h.have = nft.After(h.have, r)
	h.table = r
	r.Sets = slices.Clone(r.Sets)
	for i := range r.Sets {
		r.Sets[i].Cgroups = h.have.Sets[r.Sets[i].Name].Cgroups // with those of others
	}
	h.rules = nft.WayThrough(r)
}

func (h *simulated) makeCgroup(path string) {
	h.lastID++
	h.cgroups[path] = h.lastID
}

// Observe shows the host as *host.Host does.
func (h *simulated) Observe(_ context.Context, o *decide.Observation, parts decide.Parts) error {
	facts := h.kernel.Facts()
	if parts.Has(decide.Configuration) {
		o.Config, o.Before = h.config.read(), nil
		if h.inForce != nil && o.Broken() {
			before := h.inForce.read()
			o.Before = &before
		}
	}
	if parts.Has(decide.Leases) {
		o.Records = h.leases
	}
	if parts.Has(decide.Interfaces) {
		o.Facts.Links, o.Facts.Addrs, o.Facts.Families = facts.Links, facts.Addrs, facts.Families
	}
	if parts.Has(decide.WireGuard) {
		h.readDevices(o)
	}
	if parts.Has(decide.Rules) || o.Behind().Has(decide.Rules) {
		o.Facts.Rules, o.Facts.Families = facts.Rules, facts.Families
	}
	if parts.Has(decide.Routes) || o.Behind().Has(decide.Routes) {
		o.Facts.Routes, o.ReadTables = facts.Routes, o.RouteTables()
	}
	if parts.Has(decide.Nftables) {
		h.readTable(o)
	}
	if parts.Has(decide.Services) {
		h.readCgroups(o)
	}
	if parts.Has(decide.Programs) {
		h.readSockets(o)
	}
	return nil
}

func (h *simulated) readTable(o *decide.Observation) {
	o.Table = decide.Table{Have: h.have, Running: map[fwmark.Mark]bool{}}
	for _, m := range o.MayRun() {
		for f := range h.flows {
			if m.Selects(f.mark) {
				o.Table.Running[m] = true
			}
		}
	}
	o.Failed(decide.Nftables)
	switch {
	case h.lacks:
		o.Table = decide.Table{Missing: nftkernel.ErrNone}
	case h.faults.unread[nft.Table]:
		o.Table = decide.Table{Missing: errSim, Unread: true}
		o.Failed(decide.Nftables, errSim)
	}
}

func (h *simulated) readDevices(o *decide.Observation) {
	o.Devices = decide.Devices{}
	o.Failed(decide.WireGuard)
	var errs []error
	for _, l := range h.kernel.Links {
		mark, is := h.devices[l.Name]
		switch {
		case !is:
		case h.faults.unread[l.Name]:
			o.Devices.Unread = append(o.Devices.Unread, l.Name)
			errs = append(errs, fmt.Errorf("read %s: %w", l.Name, errSim))
		default:
			o.Devices.Found = append(o.Devices.Found, wg.Device{Name: l.Name, Mark: mark})
		}
	}
	o.Failed(decide.WireGuard, errs...)
}

func (h *simulated) readCgroups(o *decide.Observation) {
	c := decide.Cgroups{ByPath: map[string]nft.Cgroup{}, Names: map[uint64]string{}}
	marks := 0
	var paths []string
	for _, config := range o.Configs() {
		for _, in := range config.Intents {
			paths = append(paths, in.Cgroups...)
			if !in.Mark.IsZero() {
				marks++
			}
		}
	}
	o.Failed(decide.Services)
	if marks == 0 && !o.Table.Have.MarksConnections() && len(policy.Standing(o.Facts)) == 0 {
		o.Cgroups = c
		return
	}
	for path, id := range h.cgroups {
		uplink, run := strings.CutPrefix(path, runPrefix)
		switch {
		case h.faults.unread[path]:
			c.Unread = true
			o.Failed(decide.Services, fmt.Errorf("read %s: %w", path, errSim))
		case run:
			c.Runs = append(c.Runs, decide.RunSlice{Uplink: uplink, Cgroup: nft.Cgroup{ID: id, Level: 1}, Lives: true})
			c.Names[id] = path
		case slices.Contains(paths, path):
			c.ByPath[path], c.Names[id] = nft.Cgroup{ID: id, Level: 1}, path
		case slices.Contains(o.Table.Have.Paths(), id):
			if c.Unlisted == nil {
				c.Unlisted = map[uint64]string{}
			}
			c.Unlisted[id] = path
		}
	}
	o.Cgroups = c
}

// Apply makes steps as *host.Host does, but that the run may be killed between
// any two of them, and within one that the kernel is asked to make in several
// calls.
func (h *simulated) Apply(_ context.Context, steps []decide.Step) (out decide.Outcome) {
	for _, s := range steps {
		if table, is := s.(decide.TableStep); is {
			h.applyTable(table, &out)
			continue
		}
		text := strings.Join(decide.Keys(s), "; ")
		if err := h.begin(text); err != nil && h.refuses(s) {
			out.Add(s, err)
			continue
		}
		out.Add(s, h.do(s))
		h.after(text)
	}
	return out
}

// begin counts a step that is about to be made.
func (h *simulated) begin(text string) error {
	if h.steps == h.faults.kill {
		panic(killed{})
	}
	h.before()
	if h.steps == h.faults.refuse || h.faults.text != "" && strings.Contains(text, h.faults.text) {
		h.refused = text
	}
	h.steps++
	if text == h.refused {
		return fmt.Errorf("%s: %w", text, errSim)
	}
	return nil
}

// refuses reports whether a step may be refused. A rule may not where the table
// does not hold: rules are added though a guard in front of them is missing,
// which only the other lock makes up for.
func (h *simulated) refuses(s decide.Step) bool {
	if _, is := s.(decide.RuleStep); !is {
		return true
	}
	return h.refusesRule()
}

func (h *simulated) do(s decide.Step) error {
	switch s := s.(type) {
	case decide.RuleStep:
		switch errno := h.kernel.Do(s.Step); errno {
		case sim.Done, syscall.EEXIST, syscall.ENOENT, syscall.ESRCH:
		default:
			return fmt.Errorf("%s: %w", s, errno)
		}
	case decide.DeviceStep:
		switch _, there := h.devices[s.Device]; {
		case !there || h.faults.unread[s.Device]:
			return fmt.Errorf("%s: %w", s, errSim)
		case s.Mark != 0 && !h.due[s.Device]:
			return fmt.Errorf("%s: the device was not noted as due", s)
		}
		h.devices[s.Device] = s.Mark
	case decide.ForgetStep:
		h.forget(s.Mark)
	case decide.SocketStep:
		return h.applySocket(s)
	case decide.SocketMove:
		h.moveSockets(s)
	case decide.SocketGone:
		h.noted = h.noted.Drop(s.Cgroups...)
	case decide.ForgetSourceStep: // what connections were translated to is not known here: they stay, and are judged
	default:
		return fmt.Errorf("%v: a step that the model does not know", s)
	}
	return nil
}

// applyTable changes the table: at first with conntrack alone where connections
// may run that it does not know, then in one transaction.
func (h *simulated) applyTable(s decide.TableStep, out *decide.Outcome) {
	plan := s.Plan()
	want := s.Want
	if err := h.begin(strings.Join(plan.Steps, "; ")); err != nil {
		if len(h.faults.part) == 0 || want.Empty() {
			out.Fail(plan.Steps, err)
			return
		}
		h.applyParts(s, err, out)
		return
	} else if plan.ConntrackFirst {
		h.setTable(want.WithoutMarks())
		h.after("= nft chain services: conntrack alone")
		_ = h.begin("the rest of the table") // its number is not the refused one's
	}
	if both, moves := want.Keeping(h.have); moves {
		h.setTable(both)
		h.after("cgroups in the sets of both their marks")
		_ = h.begin("the rest of the table")
	}
	h.setTable(want)
	h.after(strings.Join(plan.Steps, "; "))
	out.Made = append(out.Made, plan.Steps...)
}

// applyParts changes the parts of the table one by one, those that are not
// refused.
func (h *simulated) applyParts(s decide.TableStep, err error, out *decide.Outcome) {
	for _, part := range nft.Parts {
		lines := part.Diff(h.have, s.Want, s.Names).Steps
		switch {
		case len(lines) == 0:
			continue
		case slices.Contains(h.faults.part, part):
			if part == nft.LockPart {
				h.lockRefused()
			}
			out.Fail(lines, err)
			continue
		}
		var mixed nft.Ruleset
		for _, p := range nft.Parts {
			only := h.table.Only(p)
			if p == part {
				only = s.Want.Only(p)
			}
			mixed.Counters, mixed.Sets, mixed.Chains = append(mixed.Counters, only.Counters...), append(mixed.Sets, only.Sets...), append(mixed.Chains, only.Chains...)
		}
		h.setTable(mixed)
		h.after(strings.Join(lines, "; "))
		out.Made = append(out.Made, lines...)
	}
}

// forget has conntrack forget connections that a mark selects.
func (h *simulated) forget(m fwmark.Mark) {
	for c := range h.flows {
		if m.Selects(c.mark) {
			delete(h.flows, c)
		}
	}
}

// read returns the configuration as config.Load does.
func (c configuration) read() config.Config {
	read := config.Config{Priority: c.priority, Intents: c.intents(), Marking: c.marking}
	if c.typo || c.refuses() {
		read.Problems = []fwmark.Problem{{Text: "a typo"}}
	}
	return read
}

// flow is a connection that conntrack knows, of a service, with the mark that it
// got as it began. Connections that nothing tells apart are one.
type flow struct {
	service     string
	mark        uint32
	source      netip.Addr // which the socket is bound to
	masqueraded bool
	uplink      string // by which its first packet left
	flushed     bool   // others have taken the table away since: it may go on without its mark
}
