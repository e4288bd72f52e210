package man

import (
	"regexp"
	"strings"
)

// exits begins what a command's help says of its exit status.
const exits = "Exits with "

// parts begin what a command's help says of what it reads and writes.
var parts = regexp.MustCompile(`^(Reads and writes|Reads|Writes): `)

// Text writes a command's help: paragraphs, lines that are indented and stay as they
// are, and what is read and written. What it says of the exit status is returned.
func (p *Page) Text(text string) (exit string) {
	for _, paragraph := range strings.Split(text, "\n\n") {
		if before, status, is := strings.Cut("\n"+paragraph, "\n"+exits); is {
			paragraph, exit = strings.TrimPrefix(before, "\n"), exits+status
		}
		for _, block := range blocks(paragraph) {
			name := parts.FindString(block)
			switch {
			case strings.HasPrefix(block, "  "):
				p.Verbatim(strings.ReplaceAll(block[2:], "\n  ", "\n"))
			case name != "":
				p.Item(Bold(strings.TrimRight(name, ": ")), block[len(name):])
			default:
				p.Paragraph(block)
			}
		}
	}
	return exit
}

// blocks takes a paragraph apart where what is indented begins and ends, and where a
// line tells what is read or written.
func blocks(paragraph string) (list []string) {
	indented := false
	for _, line := range strings.Split(paragraph, "\n") {
		is := strings.HasPrefix(line, "  ")
		if len(list) == 0 || is != indented || parts.MatchString(line) {
			list = append(list, line)
		} else {
			list[len(list)-1] += "\n" + line
		}
		indented = is
	}
	if paragraph == "" {
		return nil
	}
	return list
}
