package decide

import (
	"maps"
	"slices"
	"strings"
	"time"

	"wg-multihome/cmd/internal/state"
	"wg-multihome/fwmark"
	"wg-multihome/fwmark/config"
	"wg-multihome/nft"
	"wg-multihome/policy"
	"wg-multihome/wg"
)

// Observation is what the host shows: its configuration, what DHCP clients
// said, and what the kernel has.
type Observation struct {
	Config  config.Config
	Before  *config.Config          // what was in force last, while Config has an error; nil: it has none, or that was not noted
	Records map[string]state.Record // leases, by interface
	Facts   policy.Facts            // all that the kernel shows; Decide adds the leases, and what the run remembers

	ReadTables map[RouteTable]bool // RouteTables as they were when routes were read last
	Devices    Devices
	Table      Table
	Cgroups    Cgroups
	Sockets    Sockets
	Sysctls    Sysctls

	errs [parts][]error // what could not be read, by part
}

// Devices are the WireGuard devices.
type Devices struct {
	Found  []wg.Device   // those that are there, listed or not
	Unread []string      // those that may be there, but could not be read
	Took   time.Duration // the time that they took to answer
}

// Table is our nftables table.
type Table struct {
	Have nft.State

	// Missing is why nothing is known of the table, and nothing can be done
	// about it: no nf_tables in this kernel, or no leave to read, or others have
	// changed it each time. nil: it was read.
	Missing error

	Unread bool // Missing is set, and the table may stand

	// Running are the marks that no new connection gets any more, and that
	// connections have which conntrack knows.
	Running map[fwmark.Mark]bool
}

// Cgroups are the cgroups that services are pinned by.
type Cgroups struct {
	ByPath map[string]nft.Cgroup // of the configured paths, those that exist
	Runs   []RunSlice            // slices of `run` that hold a cgroup
	Names  map[uint64]string     // paths by id, for the text of steps
	Unread bool                  // some could not be read: no cgroup that is pinned goes

	// Unlisted are cgroups that a set of ours holds, that exist, and that are
	// neither configured nor of `run`: paths by id.
	Unlisted map[uint64]string
}

// RunSlice is a slice of `run`.
type RunSlice struct {
	Uplink string // "": it goes by the mark, as in earlier versions
	Value  uint32 // the plain value of the mark
	Cgroup nft.Cgroup
	Lives  bool // a process lives in it
}

// of reports whether the slice's processes are pinned by a pin.
func (run RunSlice) of(p fwmark.Pin) bool {
	return !p.Full && (run.Uplink != "" && run.Uplink == p.Uplink || run.Uplink == "" && run.Value == p.Mark.Value)
}

// runsOf returns the slices whose processes are pinned by a pin.
func (c Cgroups) runsOf(p fwmark.Pin) []nft.Cgroup {
	var list []nft.Cgroup
	for _, run := range c.Runs {
		if run.of(p) {
			list = append(list, run.Cgroup)
		}
	}
	return list
}

// Sysctls are the settings that answers to masqueraded connections take.
type Sysctls struct {
	Filters []nft.Filter    // nil: this kernel has no IPv4
	Ours    map[string]bool // the devices whose src_valid_mark is noted as set by us
}

// Parts are parts of an Observation, each of which can be read by itself.
type Parts uint

// The parts, in the order in which they are read: what one shows tells what is
// to be read of a later one.
const (
	Configuration Parts = 1 << iota
	Leases
	Interfaces // links and addresses
	WireGuard  // devices
	Rules
	Routes
	Nftables // our table
	Services // cgroups
	Programs // on cgroups, that mark sockets
	Settings // sysctls

	parts = iota

	// Routing is what the kernel looks up.
	Routing = Rules | Routes

	// Everything is all that can be observed.
	Everything Parts = 1<<parts - 1
)

// partNames are the parts' names in messages, in their order.
var partNames = [parts]string{
	"configuration", "leases", "interfaces", "WireGuard devices", "rules", "routes", "nftables", "cgroups", "programs on cgroups", "sysctls",
}

// String names the parts.
func (p Parts) String() string {
	if p == Everything {
		return "everything"
	}
	var names []string
	for i, name := range partNames {
		if p&(1<<i) != 0 {
			names = append(names, name)
		}
	}
	return strings.Join(names, ", ")
}

// Has reports whether p and o have a part in common.
func (p Parts) Has(o Parts) bool { return p&o != 0 }

// RouteTable is a routing table of one family.
type RouteTable struct {
	Family fwmark.Family
	Number uint32
}

// RouteTables are the tables of others whose routes are read: those that their rules look
// up; and, as wg-quick takes a device's mark for the number of its table, those too:
// nothing else says that they matter.
func (o Observation) RouteTables() map[RouteTable]bool {
	tables := map[RouteTable]bool{}
	for i := range o.Facts.Rules {
		r := &o.Facts.Rules[i]
		if table, is := r.ForeignTable(); is {
			tables[RouteTable{r.Family, table}] = true
		}
	}
	for _, device := range o.Devices.Found {
		for _, f := range fwmark.Families {
			tables[RouteTable{f, device.Mark}] = true
		}
	}
	return tables
}

// Behind returns what else of Routing is to be read, by what was read meanwhile: routes,
// where those of other tables matter now; and rules, where there is an address of a family
// that had none. The kernel does not tell of the rules that a new family comes with.
func (o Observation) Behind() (parts Parts) {
	if !maps.Equal(o.RouteTables(), o.ReadTables) {
		parts |= Routes
	}
	if slices.ContainsFunc(o.Facts.Addrs, func(a policy.Address) bool { return !o.Facts.Families[fwmark.FamilyOf(a.Prefix.Addr())] }) {
		parts |= Rules
	}
	return parts
}

// Failed notes what could not be read of one part, in place of what was noted
// before.
func (o *Observation) Failed(part Parts, errs ...error) {
	errs = slices.DeleteFunc(errs, func(err error) bool { return err == nil })
	for i := range parts {
		if part == 1<<i {
			o.errs[i] = errs
		}
	}
}

// Errors returns what could not be read.
func (o Observation) Errors() []error { return slices.Concat(o.errs[:]...) }

// Broken reports whether the configuration has an error, by itself.
func (o Observation) Broken() bool {
	if len(o.Config.Problems) > 0 {
		return true
	}
	_, problems := fwmark.Resolve(o.Config.Intents, nil, nil, nil, nil)
	return len(problems) > 0
}

// Configs returns the configuration, and while it has an error what was in force last:
// that may list what cannot be read now.
func (o Observation) Configs() []config.Config {
	if o.Before == nil {
		return []config.Config{o.Config}
	}
	return []config.Config{o.Config, *o.Before}
}

// leases returns the records as policy has them, in order of interface.
func (o Observation) leases() []policy.Lease {
	leases := make([]policy.Lease, 0, len(o.Records))
	for iface, r := range o.Records {
		leases = append(leases, policy.Lease{Device: iface, Address: r.Address.Addr(), Gateway: r.Gateway})
	}
	slices.SortFunc(leases, func(a, b policy.Lease) int { return strings.Compare(a.Device, b.Device) })
	return leases
}

// WithoutGateway returns the uplinks that have an address and, by what was read so
// far, no gateway.
func (o Observation) WithoutGateway() []string {
	f := o.Facts
	f.Leases = o.leases()
	uplinks, _ := policy.Uplinks(f, o.Config.Intents, len(o.Config.Problems) > 0) // Decide tells its errors
	var names []string
	for _, u := range uplinks {
		for _, family := range fwmark.Families {
			if u.Up && u.Address[family].IsValid() && !u.Gateways[family].IsValid() && !slices.Contains(names, u.Name) {
				names = append(names, u.Name)
			}
		}
	}
	return names
}

// leased reports whether there is an IPv4 lease whose address is on its interface.
func (o Observation) leased() bool {
	return slices.ContainsFunc(o.Facts.Leases, func(l policy.Lease) bool {
		on := func(a policy.Address) bool { return a.Device == l.Device && a.Prefix.Addr() == l.Address }
		return l.Address.Is4() && slices.ContainsFunc(o.Facts.Addrs, on)
	})
}

// deviceMarks returns the marks of the WireGuard devices by name; 0: off.
func (o Observation) deviceMarks() map[string]uint32 {
	marks := make(map[string]uint32, len(o.Devices.Found))
	for _, d := range o.Devices.Found {
		marks[d.Name] = d.Mark
	}
	return marks
}
