package man

import (
	"regexp"
	"strings"
)

var (
	remark = regexp.MustCompile(`(?m)^<!--.*-->\n+`)
	point  = regexp.MustCompile(`^(-|[0-9]+\.) +`)
	terms  = regexp.MustCompile("^(`[^`]+`(?:,? (?:of a [a-z]+|`[^`]+`))*): ")
)

// Markdown writes a topic's text, from behind its title on. Of Markdown it knows what
// topics have: headings, paragraphs, lists and fenced blocks.
func (p *Page) Markdown(text string) {
	if strings.HasPrefix(text, "# ") {
		_, text, _ = strings.Cut(text, "\n")
	}
	lines := strings.Split(strings.TrimSpace(remark.ReplaceAllString(text, "")), "\n")
	for i := 0; i < len(lines); {
		switch line := lines[i]; {
		case line == "":
			i++
		case strings.HasPrefix(line, "#"):
			p.Subheading(strings.TrimLeft(line, "# "))
			i++
		case strings.HasPrefix(line, "```"):
			end := i + 1
			for end < len(lines) && lines[end] != "```" {
				end++
			}
			p.fenced(line, lines[i+1:end])
			i = end + 1
		default:
			end := i + 1
			for end < len(lines) && lines[end] != "" && !strings.HasPrefix(lines[end], "```") && !point.MatchString(lines[end]) {
				end++
			}
			p.block(strings.Join(lines[i:end], "\n"))
			i = end
		}
	}
}

// fenced writes a block: what is a table, as terms, so that it is filled too.
func (p *Page) fenced(info string, lines []string) {
	rows := table(lines)
	if info != "```text" || len(rows) == 0 {
		p.Verbatim(strings.Join(lines, "\n"))
		return
	}
	for _, row := range rows {
		p.Item(Bold(row[0]), row[1])
	}
}

var cells = regexp.MustCompile(`^(\S.*?)  +\S`)

// table takes lines apart whose second column begins at one place; what has nothing in
// the first goes on with the row before. None: they are no table.
func table(lines []string) (rows [][2]string) {
	m := cells.FindStringSubmatch(strings.Join(lines[:min(1, len(lines))], ""))
	if m == nil {
		return nil
	}
	column := len(m[0]) - 1
	for _, line := range lines {
		if len(line) <= column || line[column-1] != ' ' || line[column] == ' ' {
			return nil
		}
		switch term := strings.TrimSpace(line[:column]); {
		case term != "":
			rows = append(rows, [2]string{term, line[column:]})
		default:
			rows[len(rows)-1][1] += lineBreak + line[column:]
		}
	}
	return rows
}

// block writes a part of a list, what a term means, or a paragraph.
func (p *Page) block(text string) {
	if mark := point.FindString(text); mark != "" {
		p.point(strings.TrimSpace(mark), text[len(mark):])
		return
	}
	if m := terms.FindStringSubmatch(text); m != nil {
		p.Item(inline(m[1]), text[len(m[0]):])
		return
	}
	p.Paragraph(text)
}
