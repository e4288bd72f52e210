package nft

import (
	"cmp"
	"net/netip"
	"slices"

	"wg-multihome/fwmark"
)

// Packet is one packet of this host, as a rule of ours sees it.
type Packet struct {
	Mark      uint32
	CtMark    uint32
	Confirmed bool // conntrack knows the connection
	Reply     bool // it answers the connection's first packet
	TCP       bool

	Src, Dst netip.Addr
	ToHost   bool // the destination is an address of this host
	FromOut  bool // the source is an address of the device that it leaves by

	Given netip.Addr // the source that masquerading gives; invalid: it is not known

	Out     string // the device that it leaves by; "": not known as yet
	OutKind string // and that device's kind

	Cgroups map[int]uint64 // the ancestors of the socket's cgroup, and itself, by level
}

// Fate is what becomes of a packet in one hook.
type Fate struct {
	Packet              // as it leaves the hook
	Dropped      bool   // or answered with a reset
	By           string // dropped: the base chain
	Masqueraded  bool
	CounterNames []string // that counted it
}

// Way is a ruleset in the form that packets are sent through.
type Way struct {
	bases  map[string][]Chain // by hook, in the order in which the kernel calls them
	chains map[string]Chain
	sets   map[string]Set
}

// WayThrough returns the way through a ruleset.
func WayThrough(r Ruleset) *Way {
	s := &Way{bases: map[string][]Chain{}, chains: map[string]Chain{}, sets: map[string]Set{}}
	for _, c := range r.Chains {
		s.chains[c.Name] = c
		if c.Base.Hook != "" {
			s.bases[c.Base.Hook] = append(s.bases[c.Base.Hook], c)
		}
	}
	for hook := range s.bases {
		slices.SortStableFunc(s.bases[hook], func(a, b Chain) int { return cmp.Compare(a.Base.Priority, b.Base.Priority) })
	}
	for _, set := range r.Sets {
		s.sets[set.Name] = set
	}
	return s
}

// Send sends a packet through all base chains of a hook. What one of them
// accepts goes on to the next one; what one drops is gone.
func (s *Way) Send(hook string, p Packet) Fate {
	f := Fate{Packet: p}
	for _, c := range s.bases[hook] {
		if s.walk(c, &f) == dropped {
			f.Dropped, f.By = true, c.Name
			return f
		}
	}
	return f
}

// outcome is how a walk through a chain ends.
type outcome uint8

const (
	goesOn   outcome = iota // with the rule behind the jump; from a base chain: by its policy, accept
	accepted                // by this base chain
	dropped
)

func (s *Way) walk(c Chain, f *Fate) outcome {
	for _, r := range c.Rules {
		end, left := s.apply(r, f)
		if left {
			return end
		}
	}
	return goesOn
}

// apply applies one rule. left says that the chain is left, and how.
func (s *Way) apply(r Rule, f *Fate) (end outcome, left bool) {
	for _, e := range r {
		switch e.Kind {
		case SetMetaMark:
			f.Mark = f.Mark&^e.Mark.Mask | e.Mark.Value
		case SetCtMark:
			f.CtMark = f.CtMark&^e.Mark.Mask | e.Mark.Value
		case SetMSS:
		case Count:
			f.CounterNames = append(f.CounterNames, e.Name)
		case Masquerade:
			if f.Masqueraded = true; f.Given.IsValid() {
				f.Src, f.FromOut = f.Given, true
			}
			return accepted, true
		case Accept:
			return accepted, true
		case Drop, Reset:
			return dropped, true
		case Return:
			return goesOn, true
		case Goto: // what comes back from there does not come back here
			return s.walk(s.chains[e.Name], f), true
		case Jump:
			if end := s.walk(s.chains[e.Name], f); end != goesOn {
				return end, true
			}
		default:
			if !s.matches(e, f.Packet) {
				return goesOn, false
			}
		}
	}
	return goesOn, false
}

func (s *Way) matches(e Expr, p Packet) bool {
	switch e.Kind {
	case MetaMark:
		return (p.Mark&e.Mark.Mask == e.Mark.Value) != e.Not
	case CtMark:
		return (p.CtMark&e.Mark.Mask == e.Mark.Value) != e.Not
	case Confirmed:
		return p.Confirmed
	case Established: // those here were answered, or have just begun
		return p.Confirmed
	case Invalid: // conntrack knows all of them
		return false
	case Original:
		return !p.Reply
	case Reply:
		return p.Reply
	case FromHere:
		return true
	case OutDevice:
		return p.Out == e.Name
	case OutKind:
		return p.OutKind == e.Name
	case OfFamily:
		return fwmark.FamilyOf(p.Dst) == e.Family
	case TCP:
		return p.TCP
	case SYN:
		return p.TCP && !p.Confirmed
	case To:
		return e.Prefix.Contains(p.Dst)
	case ToSet:
		return fwmark.FamilyOf(p.Dst) == e.Family && holds(s.sets[e.Name], p.Dst) != e.Not
	case FromSet:
		return fwmark.FamilyOf(p.Src) == e.Family && holds(s.sets[e.Name], p.Src)
	case ToOther:
		return !p.ToHost
	case FromOther:
		return !p.FromOut
	case InCgroup:
		id, deep := p.Cgroups[e.Level]
		return deep && slices.Contains(s.sets[e.Name].Cgroups, id)
	}
	return false // Renewal, InDevice, HasSocket: DHCP's packets, and what comes in, are not sent through here
}

func holds(s Set, a netip.Addr) bool {
	for _, r := range s.Ranges {
		if r.Contains(a) {
			return true
		}
	}
	return false
}
