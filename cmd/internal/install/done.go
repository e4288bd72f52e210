package install

// Done is what was done with files, and what follows from it.
type Done struct {
	Written []Entry // that are new, or another version
	Units   []Unit  // whose files are ours
	Reload  bool    // systemd has to read files of units again
}

// Unit is one that is enabled and started.
type Unit struct {
	Name  string
	Stays bool // it runs on
	New   bool // its file is new, or another version
}

// Add adds a line that was done.
func (d *Done) Add(l Line) {
	if l.Act == Write {
		d.Written = append(d.Written, l.Entry)
	}
	if l.Act != Stands && l.Act != Leave && (l.Entry.Client == Systemd || l.Entry.Client == WgQuick) {
		d.Reload = true
	}
	if name := l.Entry.Unit(); name != "" && l.Act != Leave {
		d.Units = append(d.Units, Unit{Name: name, Stays: l.Entry.stays, New: l.Act == Write})
	}
}
