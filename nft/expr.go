package nft

import (
	"fmt"
	"net/netip"
	"strings"

	"wg-multihome/fwmark"
)

// Kind is what an expression of a rule does.
type Kind uint8

// The expressions that our rules are made of, and which fields of Expr each
// takes. What matches and does not hold ends the rule.
const (
	MetaMark      Kind = iota + 1 // Mark, Not: the packet's mark under the mask
	CtMark                        // Mark, Not: the connection's
	SetMetaMark                   // Mark: set the bits under the mask
	SetCtMark                     // Mark
	Confirmed                     // the connection is known to conntrack already: its first packet has left
	Established                   // the connection was answered, or the packet is an error about one that conntrack knows
	Invalid                       // conntrack takes the packet for none of a connection that it knows
	Original                      // the packet goes in the direction of the connection's first one
	Reply                         // it answers
	FromHere                      // sent by this host, and not forwarded
	InDevice                      // Name: came in by the device
	OutDevice                     // Name: leaves by the device
	OutKind                       // Name: leaves by a device of the kind (rtnl_link_ops, ip-link(8) TYPES)
	OfFamily                      // Family
	TCP                           // is TCP
	SYN                           // opens a TCP connection, or answers what does
	SetMSS                        // Size: the segment size that a SYN allows gets that small, and never larger
	UDP                           // is UDP
	HasSocket                     // a socket of this host takes the packet
	Bound                         // a socket takes it, or sent it, that is bound to an address
	NoteAsker                     // Family, Name: who asks by UDP is noted, with the address that was asked
	AnswerAsker                   // Family, Name: UDP to whom is noted gets the address that was asked for its source, and is noted again
	LateAnswer                    // Family, Name of a set of Answers: UDP that answers what conntrack has forgotten; it is noted again
	GuessedAnswer                 // the same, but it is not noted again
	From                          // Prefix: source
	To                            // Prefix: destination
	ToSet                         // Family, Name of a set of prefixes, Not: destination
	FromSet                       // Family, Name of a set of prefixes: source
	ToOther                       // the destination is no address of this host
	FromOther                     // the source is no address of the device that the packet leaves by
	Renewal                       // UDP 68 to 67 with a BOOTP ciaddr (RFC 2131, 4.4.5)
	SetSource                     // to that ciaddr
	InCgroup                      // Level, Name of a set: the ancestor at this level of the socket's cgroup
	Count                         // Name of a counter
	Reset                         // reject with a TCP reset
	Masquerade                    //
	Translate                     // Prefix, of one address: the source of the connection
	Accept                        // ends this base chain's work, not that of others
	Return                        // to the rule behind the jump
	Drop                          //
	Goto                          // Name of a chain
	Jump                          // Name of a chain
)

// Expr is one expression of a rule. Unused fields are zero.
type Expr struct {
	Kind   Kind
	Not    bool
	Mark   fwmark.Mark // Value may be 0: no bit under the mask is set
	Family fwmark.Family
	Prefix netip.Prefix
	Level  int // of a cgroup: the number of its path's components, from 1
	Size   uint16
	Name   string
}

// String returns the expression as `nft list` prints it.
func (e Expr) String() string {
	switch e.Kind {
	case MetaMark:
		return "meta mark" + e.markText()
	case CtMark:
		return "ct mark" + e.markText()
	case SetMetaMark:
		return "meta mark set " + e.setText("meta mark")
	case SetCtMark:
		return "ct mark set " + e.setText("ct mark")
	case InDevice:
		return fmt.Sprintf("iifname %q", e.Name)
	case OutDevice:
		return fmt.Sprintf("oifname %q", e.Name)
	case OutKind:
		return fmt.Sprintf("meta oifkind %q", e.Name)
	case From:
		return network(fwmark.FamilyOf(e.Prefix.Addr())) + " saddr " + prefixText(e.Prefix)
	case Translate:
		return "snat " + network(fwmark.FamilyOf(e.Prefix.Addr())) + " to " + prefixText(e.Prefix)
	case NoteAsker:
		return fmt.Sprintf("update @%s { %[2]s saddr . udp sport . udp dport : %[2]s daddr }", e.Name, network(e.Family))
	case AnswerAsker:
		return fmt.Sprintf("%[2]s saddr set %[2]s daddr . udp dport . udp sport map @%[1]s update @%[1]s { %[2]s daddr . udp dport . udp sport : %[2]s saddr }", e.Name, network(e.Family))
	case LateAnswer:
		return fmt.Sprintf("%s update @%s { %s }", e.answer(), e.Name, answerKey(e.Family))
	case GuessedAnswer:
		return e.answer()
	case To:
		return network(fwmark.FamilyOf(e.Prefix.Addr())) + " daddr " + prefixText(e.Prefix)
	case ToSet:
		return network(e.Family) + " daddr " + e.not() + "@" + e.Name
	case FromSet:
		return network(e.Family) + " saddr @" + e.Name
	case OfFamily:
		return "meta nfproto ipv" + e.Family.String()
	case SetMSS:
		return fmt.Sprintf("tcp option maxseg size set %d", e.Size)
	case InCgroup:
		return fmt.Sprintf("socket cgroupv2 level %d @%s", e.Level, e.Name)
	case Count:
		return fmt.Sprintf("counter name %q", e.Name)
	case Goto:
		return "goto " + e.Name
	case Jump:
		return "jump " + e.Name
	}
	return words[e.Kind]
}

// answerKey is what selects an answer.
func answerKey(f fwmark.Family) string {
	return fmt.Sprintf("%[1]s saddr . udp sport . %[1]s daddr . udp dport", network(f))
}

func (e Expr) answer() string { return answerKey(e.Family) + " @" + e.Name }

// words are the texts of expressions that take nothing.
var words = [...]string{
	Confirmed:   "ct status confirmed",
	Established: "ct state established,related",
	Invalid:     "ct state invalid",
	FromHere:    "iif 0",
	Original:    "ct direction original",
	Reply:       "ct direction reply",
	TCP:         "meta l4proto tcp",
	SYN:         "tcp flags syn / syn,rst",
	UDP:         "meta l4proto udp",
	Bound:       "socket wildcard 0",
	HasSocket:   "socket transparent <= 1",
	Renewal:     "udp sport 68 udp dport 67 @th,160,32 != 0x0",
	SetSource:   "ip saddr set @th,160,32",
	ToOther:     "fib daddr type != local",
	FromOther:   "fib saddr . oif type != local",
	Reset:       "reject with tcp reset",
	Masquerade:  "masquerade",
	Accept:      "accept",
	Return:      "return",
	Drop:        "drop",
	Jump:        "",
}

// setOf returns the name of the set that an expression looks up, or adds to; ""
// for none.
func (e Expr) setOf() string {
	switch e.Kind {
	case ToSet, FromSet, InCgroup, NoteAsker, AnswerAsker, LateAnswer, GuessedAnswer:
		return e.Name
	}
	return ""
}

func (e Expr) not() string {
	if e.Not {
		return "!= "
	}
	return ""
}

func (e Expr) markText() string {
	if e.Mark.Mask == fwmark.FullMask {
		return fmt.Sprintf(" %s0x%08x", e.not(), e.Mark.Value)
	}
	op := "=="
	if e.Not {
		op = "!="
	}
	return fmt.Sprintf(" & 0x%08x %s 0x%08x", e.Mark.Mask, op, e.Mark.Value)
}

// setText writes (old & ^mask) ^ value as nft does, which has `|` alone.
func (e Expr) setText(what string) string {
	if e.Mark.Mask == fwmark.FullMask {
		return fmt.Sprintf("0x%08x", e.Mark.Value)
	}
	return fmt.Sprintf("%s & 0x%08x | 0x%08x", what, ^e.Mark.Mask|e.Mark.Value, e.Mark.Value)
}

func network(f fwmark.Family) string {
	if f == fwmark.IPv6 {
		return "ip6"
	}
	return "ip"
}

func prefixText(p netip.Prefix) string {
	if p.IsSingleIP() {
		return p.Addr().String()
	}
	return p.String()
}

// Rule is a rule: its expressions, in order.
type Rule []Expr

// String returns the rule as `nft list` prints it.
func (r Rule) String() string {
	texts := make([]string, len(r))
	for i, e := range r {
		texts[i] = e.String()
	}
	return strings.Join(texts, " ")
}
