package nft

import (
	"fmt"
	"hash/fnv"
	"strings"
	"time"

	"go4.org/netipx"

	"wg-multihome/fwmark"
)

// Table is our table, of family inet. systemd's NFTSet= takes letters, digits
// and `/ \ _ .` in names, so there is no dash in it.
const Table = "wg_multihome"

// Ruleset is what stands in the table, or is to stand there.
type Ruleset struct {
	Counters []string // names, sorted
	Sets     []Set    // by name
	Chains   []Chain  // base chains and what they lead to
}

// Empty reports whether there is nothing in it: then there is no table.
func (r Ruleset) Empty() bool { return len(r.Counters)+len(r.Sets)+len(r.Chains) == 0 }

// SetType is what a set holds.
type SetType uint8

// The types of our sets.
const (
	Cgroups  SetType = iota + 1 // cgroupsv2: ids
	Prefixes                    // ipv4_addr or ipv6_addr, in intervals
	Askers                      // a map from address and port of who asks by UDP, and the port asked, to the address asked
	Answers                     // address and port of who answers by UDP, and those that are answered
)

// Of a map of Askers.
const (
	AskerTime = 3 * time.Minute // an element lives as long without an answer: longer than conntrack keeps UDP
	AskersMax = 65536           // elements; also of a set of Answers
)

// LateTime is how long a late answer is dropped, counted from the last one (a guessed one:
// from the first): longer than an answer is on its way, and than most senders pause. For as long after
// it was turned on conntrack may take an answer for a question.
const LateTime = 10 * time.Second

// Set is a named set.
type Set struct {
	Name   string
	Type   SetType
	Family fwmark.Family // of Prefixes, Askers, Answers

	// Public says that no plan touches the elements: systemd's NFTSet= puts ids there,
	// packets do, and Expect of the kernel's client. We make the set.
	Public bool

	// Timed says that elements may have a time after which they go: others have made
	// the set so.
	Timed bool

	Cgroups []uint64         // ids: inodes of the cgroups' directories; sorted
	Ranges  []netipx.IPRange // merged, sorted
}

// Base is where the kernel calls a chain; the zero Base is that of a chain that
// others lead to.
type Base struct {
	Type     string // filter, nat or route
	Hook     string // prerouting, output or postrouting
	Priority int    // NF_IP_PRI_*, linux/netfilter_ipv4.h: lower is earlier
}

// Where our chains stand.
const (
	priorityRaw    = -300 // before conntrack
	priorityMangle = -150
	prioritySNAT   = 100
)

// Chain is a chain with its rules.
type Chain struct {
	Name  string
	Base  Base
	Rules []Rule
}

// Fingerprint tells a rule of ours from any other, in its comment: what the
// kernel says of a rule's expressions can't be compared.
func (r Rule) Fingerprint() string {
	h := fnv.New64a()
	h.Write([]byte(r.String())) // hash.Hash: never returns an error
	return fmt.Sprintf("%016x", h.Sum64())
}

// String returns the table as `nft -t list` prints it: without counts, and
// without elements.
func (r Ruleset) String() string {
	if r.Empty() {
		return ""
	}
	var parts []string
	for _, c := range r.Counters {
		parts = append(parts, fmt.Sprintf("\tcounter %s {\n\t}\n", c))
	}
	for _, s := range r.Sets {
		parts = append(parts, s.String())
	}
	for _, c := range r.Chains {
		parts = append(parts, c.String())
	}
	return "table inet " + Table + " {\n" + strings.Join(parts, "\n") + "}\n"
}

// String returns the set as `nft -t list` prints it.
func (s Set) String() string {
	switch s.Type {
	case Askers:
		addr := fmt.Sprintf("ipv%s_addr", s.Family)
		return fmt.Sprintf("\tmap %s {\n\t\ttype %s . inet_service . inet_service : %s\n\t\tsize %d\n\t\tflags dynamic,timeout\n\t\ttimeout %dm\n\t}\n",
			s.Name, addr, addr, AskersMax, AskerTime/time.Minute)
	case Answers:
		return fmt.Sprintf("\tset %s {\n\t\ttype ipv%s_addr . inet_service . ipv%[2]s_addr . inet_service\n\t\tsize %[3]d\n\t\tflags dynamic,timeout\n\t\ttimeout %[4]ds\n\t}\n", s.Name, s.Family, AskersMax, LateTime/time.Second)
	case Cgroups:
		return fmt.Sprintf("\tset %s {\n\t\ttype cgroupsv2\n\t}\n", s.Name)
	}
	return fmt.Sprintf("\tset %s {\n\t\ttype ipv%s_addr\n\t\tflags interval\n\t}\n", s.Name, s.Family)
}

// String returns the chain as `nft list` prints it.
func (c Chain) String() string {
	text := "\tchain " + c.Name + " {\n"
	if c.Base != (Base{}) {
		text += fmt.Sprintf("\t\ttype %s hook %s priority %s; policy accept;\n", c.Base.Type, c.Base.Hook, priorityText(c.Base.Priority))
	}
	for _, r := range c.Rules {
		text += "\t\t" + r.String() + "\n"
	}
	return text + "\t}\n"
}

// priorityText returns nft's word for the nearest of the standard priorities.
func priorityText(p int) string {
	for _, known := range []struct {
		priority int
		word     string
	}{{priorityRaw, "raw"}, {priorityMangle, "mangle"}, {prioritySNAT, "srcnat"}} {
		switch d := p - known.priority; {
		case d == 0:
			return known.word
		case d > -11 && d < 0:
			return fmt.Sprintf("%s - %d", known.word, -d)
		case d > 0 && d < 11:
			return fmt.Sprintf("%s + %d", known.word, d)
		}
	}
	return fmt.Sprint(p)
}
