package screen

import "strings"

// gap is what is between two columns.
const gap = "  "

// roomFor is what a last column of free text counts for: the rest of it may be longer.
const roomFor = 20

// Table is rows of cells under their columns' names.
type Table struct {
	Columns []string
	Free    bool // the last column has free text

	rows [][]string
}

// Row adds a row; empty cells behind the first are shown as "-", and those that are
// not given not at all.
func (t *Table) Row(cells ...string) {
	for i, c := range cells {
		if c == "" && i > 0 {
			cells[i] = "-"
		}
	}
	t.rows = append(t.rows, cells)
}

// Text lays the table out. Where it is too wide, the last columns are folded: their
// cells stand below the one in front of them, each with its column's name.
func (t *Table) Text(s Screen) string {
	columns := t.shown(s)
	var b strings.Builder
	for i, row := range append([][]string{t.Columns}, t.rows...) {
		lines := []string{t.line(row, columns, s)}
		switch {
		case i == 0:
			lines[0] = s.Paint(Title, lines[0])
		case lines[0] == "": // a row that goes on with the one before
			lines = t.folded(row, columns, s)
		default:
			lines = append(lines, t.folded(row, columns, s)...)
		}
		for _, line := range lines {
			b.WriteString(line + "\n")
		}
	}
	return b.String()
}

// shown is how many columns stand side by side.
func (t *Table) shown(s Screen) int {
	for n := len(t.Columns); n > 0; n-- {
		width := t.offset(n-1) + t.width(n-1)
		if n == len(t.Columns) && t.Free {
			width = t.offset(n-1) + min(t.width(n-1), roomFor)
		}
		for _, row := range t.rows {
			for i := n; i < len(row); i++ {
				if row[i] != "-" {
					width = max(width, t.below(n)+length(t.named(row, i)))
				}
			}
		}
		if width <= s.columns() {
			return n
		}
	}
	if s.Width > 0 {
		return 1
	}
	return len(t.Columns) // one cell alone is too wide: nothing helps
}

// width is that of a column.
func (t *Table) width(column int) int {
	width := length(t.Columns[column])
	for _, row := range t.rows {
		if column < len(row) {
			width = max(width, length(row[column]))
		}
	}
	return width
}

// offset is where a column begins.
func (t *Table) offset(column int) (at int) {
	for i := range column {
		at += t.width(i) + len(gap)
	}
	return at
}

// below is where folded cells begin.
func (t *Table) below(columns int) int {
	if columns == 1 {
		return len(gap)
	}
	return t.offset(columns - 1)
}

// named is a cell with its column's name.
func (t *Table) named(row []string, column int) string {
	return strings.ToLower(t.Columns[column]) + " " + row[column]
}

// line is what of a row stands side by side.
func (t *Table) line(row []string, columns int, s Screen) string {
	var b strings.Builder
	for i, cell := range row[:min(columns, len(row))] {
		if i == len(t.Columns)-1 {
			cell = s.fill(cell, t.offset(i), t.offset(i))
		}
		b.WriteString(cell)
		if i < min(columns, len(row))-1 {
			b.WriteString(strings.Repeat(" ", t.width(i)-length(cell)) + gap)
		}
	}
	return b.String()
}

// folded is the rest of a row.
func (t *Table) folded(row []string, columns int, s Screen) (lines []string) {
	at := t.below(columns)
	for i := columns; i < len(row); i++ {
		if row[i] != "-" {
			lines = append(lines, strings.Repeat(" ", at)+s.fill(t.named(row, i), at, at+len(gap)))
		}
	}
	return lines
}
