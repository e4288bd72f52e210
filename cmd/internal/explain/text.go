package explain

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"wg-multihome/cmd/internal/screen"
)

// widest is how wide a line may get before what is said of a rule has one of its
// own, in columns.
const widest = 100

// Where texts begin, and what is said of a rule.
const (
	indent     = 10
	ruleIndent = 17
)

// Write writes an explanation for people, for where it is read.
func (e Explanation) Write(w io.Writer, at screen.Screen) error {
	var b strings.Builder
	line := func(name, text string) {
		if text != "" {
			b.WriteString(at.Fill(fmt.Sprintf("%-9s %s", name, text), indent) + "\n")
		}
	}
	line("packet", e.Packet.text())
	for _, note := range e.Notes {
		line("pinned", note)
	}
	e.rules(&b, at)
	line("lock", e.Lock)
	line("source", e.Source)
	if e.Kernel.Agrees {
		line("kernel", "agrees: "+e.Kernel.Text)
	} else {
		line("kernel", "DISAGREES: "+e.Kernel.Text)
	}
	line("verdict", e.Verdict.Text)
	for _, unless := range e.Verdict.Unless {
		line("unless", unless)
	}
	line("why", e.Verdict.Why)
	line("since", e.Verdict.Since)
	line("mend", e.Verdict.Mend)
	_, err := io.WriteString(w, b.String())
	return err
}

func (p Packet) text() string {
	text := p.What + " to " + p.Destination
	if p.Port != 0 {
		text += fmt.Sprintf(" port %d", p.Port)
	}
	for name, number := range protocols {
		if p.Protocol == number {
			text += " by " + name
		}
	}
	if p.Protocol == icmp6 {
		text += " by icmp"
	}
	return text
}

// rules writes what was asked. Rules of ours for other packets, of which a host may
// have thousands, share a line; those of others have one each.
func (e Explanation) rules(b *strings.Builder, at screen.Screen) {
	width := widest
	if at.Width > 0 {
		width = min(width, at.Width)
	}
	for i := 0; i < len(e.Rules); {
		r := e.Rules[i]
		n := 1
		for i+n < len(e.Rules) && r.skipped() && e.Rules[i+n].skipped() {
			n++
		}
		i += n
		number, text, why := fmt.Sprint(r.Priority), r.Text, r.Why
		if r.skipped() {
			text, why = plural(n, "rule")+" of ours", ""
			if last := e.Rules[i-1].Priority; last != r.Priority {
				text += fmt.Sprintf(" up to %d", last)
			}
			text += ", for other packets"
		} else if r.Owner != "" && r.Owner != "ours" && r.Owner != "the kernel" {
			text += " (" + r.Owner + ")"
		}
		head := fmt.Sprintf("%-9s %-6s %s", "rule", number, text)
		switch {
		case why == "":
			b.WriteString(at.Fill(head, ruleIndent) + "\n")
		case utf8.RuneCountInString(head)+3+utf8.RuneCountInString(why) <= width:
			fmt.Fprintf(b, "%s   %s\n", head, why)
		default:
			b.WriteString(at.Fill(head, ruleIndent) + "\n")
			b.WriteString(at.Fill(strings.Repeat(" ", ruleIndent)+why, ruleIndent) + "\n")
		}
	}
}

func (r Rule) skipped() bool { return !r.Selects && r.Owner == "ours" }

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
