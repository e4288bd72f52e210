package install

// Done is what was done with files, and what follows from it.
type Done struct {
	Written []Entry  // that are new, or another version
	Units   []string // whose files are ours, by name
	Reload  bool     // systemd has to read files of units again
}

// Add adds a line that was done.
func (d *Done) Add(l Line) {
	if l.Act == Write {
		d.Written = append(d.Written, l.Entry)
	}
	if l.Act != Stands && l.Act != Leave && (l.Entry.Client == Systemd || l.Entry.Client == WgQuick) {
		d.Reload = true
	}
	if unit := l.Entry.Unit(); unit != "" && l.Act != Leave {
		d.Units = append(d.Units, unit)
	}
}
