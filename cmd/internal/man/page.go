package man

import (
	"fmt"
	"strings"
	"time"
)

// Page is a manual page that is being written.
type Page struct {
	Name    string // "wg-multihome-sync"
	Section int

	b     strings.Builder
	begun bool // a section, which has nothing yet: a paragraph there is one already
}

// New begins a page: with its title, and with the line that whatis(1) and apropos(1)
// read, see lexgrog(1).
func New(name string, section int, about string, date time.Time, version string) *Page {
	p := &Page{Name: name, Section: section}
	fmt.Fprintf(&p.b, ".TH %s %d %s \"%s\" \"\"\n", escape(strings.ToUpper(name)), section, date.UTC().Format(time.DateOnly), escape(version))
	p.b.WriteString(".nh\n.ad l\n") // words of commands and paths stay whole
	p.Heading("NAME")
	p.begun = false
	p.b.WriteString(wrapped(escape(name) + ` \- ` + escape(about)))
	return p
}

// File is the name of the page's file.
func (p *Page) File() string { return fmt.Sprintf("%s.%d", p.Name, p.Section) }

// String is the page.
func (p *Page) String() string { return p.b.String() }

// Heading begins a section.
func (p *Page) Heading(title string) {
	fmt.Fprintf(&p.b, ".SH %s\n", quoted(strings.ToUpper(title)))
	p.begun = true
}

// Subheading begins a part of a section.
func (p *Page) Subheading(title string) {
	fmt.Fprintf(&p.b, ".SS %s\n", quoted(title))
	p.begun = true
}

// paragraph begins one.
func (p *Page) paragraph() {
	if !p.begun {
		p.b.WriteString(".PP\n")
	}
	p.begun = false
}

// Paragraph writes text that is filled.
func (p *Page) Paragraph(text string) {
	p.paragraph()
	p.b.WriteString(filled(text))
}

// Verbatim writes lines that stay as they are.
func (p *Page) Verbatim(text string) {
	p.paragraph()
	p.b.WriteString(".RS 4\n.nf\n")
	for _, line := range strings.Split(strings.TrimRight(text, "\n"), "\n") {
		p.b.WriteString(guarded(escape(line)) + "\n")
	}
	p.b.WriteString(".fi\n.RE\n")
}

// lineBreak is where a line ends in a text that is filled.
const lineBreak = "\v"

// Item writes what a term means.
func (p *Page) Item(term, text string) {
	p.begun = false
	p.b.WriteString(".TP\n" + guarded(term) + "\n")
	for i, line := range strings.Split(text, lineBreak) {
		if i > 0 {
			p.b.WriteString(".br\n")
		}
		p.b.WriteString(filled(line))
	}
}

// point writes a part of a list.
func (p *Page) point(mark, text string) {
	if mark == "-" {
		mark = `\(bu`
	}
	p.begun = false
	fmt.Fprintf(&p.b, ".IP %s 4\n%s", quoted(mark), filled(text))
}

// Bold is the face of what is typed as it is.
func Bold(text string) string { return `\fB` + escape(text) + `\fR` }

// Italic is the face of what stands for something else.
func Italic(text string) string { return `\fI` + escape(text) + `\fR` }

// filled is text with its lines broken anew.
func filled(text string) string { return wrapped(inline(text)) }

// wrapped is roff's own text in lines that are short enough to be read.
func wrapped(text string) string {
	const width = 78
	var b strings.Builder
	line := ""
	for _, word := range strings.Fields(text) {
		if line != "" && len(line)+1+len(word) > width {
			b.WriteString(guarded(line) + "\n")
			line = ""
		}
		line = strings.TrimSpace(line + " " + word)
	}
	return b.String() + guarded(line) + "\n"
}
