package decide

import (
	"fmt"
	"net/netip"
	"slices"

	"wg-multihome/fwmark"
	"wg-multihome/fwmark/socket"
	"wg-multihome/nft"
	"wg-multihome/policy"
	"wg-multihome/wg"
)

// Step is one change of the host.
type Step interface {
	// Lines is the step's text, a line for each change that it makes: the same
	// in plan, in logs and in errors.
	Lines() []string

	// Changes tells which parts of an Observation are to be read again once the
	// step is made.
	Changes() Parts
}

// The kinds of step.
type (
	// RuleStep changes a rule or a route, or sets a link's group.
	RuleStep struct{ policy.Step }

	// DeviceStep gives a WireGuard device a mark, or takes it off.
	DeviceStep struct{ wg.Change }

	// SysctlStep sets an uplink's src_valid_mark.
	SysctlStep struct{ nft.Sysctl }

	// SysctlGone drops the note that a device's src_valid_mark was set by us:
	// it is not any more.
	SysctlGone struct{ Device string }

	// TableStep changes our nftables table from Have to Want, in one
	// transaction where the kernel takes it.
	TableStep struct {
		Have  nft.State
		Want  nft.Ruleset
		Names map[uint64]string // paths of cgroups by id
	}

	// SocketStep has the sockets of a cgroup get a mark, or none any more.
	SocketStep struct {
		socket.Step
		Uplink string       // that the mark is of
		Along  []SocketMove // that its sockets may go along with

		// Packets is the mark that the table gives to its packets, where its sockets
		// are marked no more for that; else zero.
		Packets fwmark.Mark
	}

	// SocketMove gives every socket with a mark another number.
	SocketMove struct {
		socket.Move
		Uplink string // that the sockets are of
	}

	// SocketGone forgets that cgroups had programs.
	SocketGone struct{ Cgroups []string }

	// ForgetStep has conntrack forget the connections with a mark. Where no
	// service was pinned by it there is nothing to forget, as a rule: then the
	// step is silent.
	ForgetStep struct {
		Mark   fwmark.Mark
		Silent bool
	}

	// ForgetSourceStep has conntrack forget the connections that were translated to
	// an address which this host has no more.
	ForgetSourceStep struct{ Address netip.Addr }
)

// Lines is a step's text.
func (s RuleStep) Lines() []string   { return []string{s.String()} }
func (s DeviceStep) Lines() []string { return []string{s.String()} }
func (s SysctlStep) Lines() []string { return []string{s.String()} }
func (s SysctlGone) Lines() []string { return nil }
func (s TableStep) Lines() []string  { return s.Plan().Steps }
func (s SocketMove) Lines() []string { return []string{s.String()} }
func (s SocketGone) Lines() []string { return nil }

// Lines is a step's text.
func (s ForgetStep) Lines() []string {
	if s.Silent {
		return nil
	}
	return []string{"- conntrack mark " + s.Mark.String()}
}

// Lines is a step's text.
func (s ForgetSourceStep) Lines() []string {
	return []string{"- conntrack source " + s.Address.String()}
}

// Changes tells what is to be read again.
func (s RuleStep) Changes() Parts {
	switch {
	case s.Op == policy.Set:
		return Interfaces
	case s.IsRoute:
		return Routing // marks are given by whether guards stand: rules are read again before that
	}
	return Rules
}
func (s DeviceStep) Changes() Parts { return WireGuard }
func (s SysctlStep) Changes() Parts { return Settings }
func (s SysctlGone) Changes() Parts { return Settings }
func (s TableStep) Changes() Parts  { return Nftables }
func (s ForgetStep) Changes() Parts { return 0 }

// Changes tells what is to be read again.
func (s ForgetSourceStep) Changes() Parts { return 0 }
func (s SocketStep) Changes() Parts       { return Programs }
func (s SocketMove) Changes() Parts       { return Programs }
func (s SocketGone) Changes() Parts       { return Programs }

// Plan returns the transaction.
func (s TableStep) Plan() nft.Plan { return nft.Diff(s.Have, s.Want, s.Names) }

// Outcome is what became of steps, by their lines.
type Outcome struct {
	Made   []string
	Failed map[string]error
}

// Add adds what became of one step.
func (o *Outcome) Add(s Step, err error) {
	if err != nil {
		o.Fail(Keys(s), err)
		return
	}
	o.Made = append(o.Made, s.Lines()...)
}

// Fail notes that lines failed together, for one reason.
func (o *Outcome) Fail(lines []string, err error) {
	if o.Failed == nil {
		o.Failed = map[string]error{}
	}
	for _, line := range lines {
		o.Failed[line] = err
	}
}

// Failing reports whether some line of a step failed.
func (o Outcome) Failing(s Step) bool {
	return len(o.Failed) > 0 && slices.ContainsFunc(Keys(s), func(line string) bool { return o.Failed[line] != nil })
}

// Keys are what failures of a step are noted by: its lines, or a text of its own
// where nothing is said of it.
func Keys(s Step) []string {
	if lines := s.Lines(); len(lines) > 0 {
		return lines
	}
	return []string{fmt.Sprintf("%T%+v", s, s)}
}
