package install

import (
	"errors"
	"fmt"
	"io/fs"
)

// Facts are what a host has.
type Facts struct {
	Found map[Client]string // the path that shows that it is there
	Files map[string]File   // what lies at the paths of the table; none where nothing does
}

// File is what lies at a path.
type File struct {
	Type   fs.FileMode // type bits, 0 for a file
	Mode   fs.FileMode // permission bits
	Text   string      // of a file
	Target string      // of a symbolic link
}

// An Act is what is done with a file.
type Act string

// The acts, as they begin a line.
const (
	Write  Act = "+"
	Remove Act = "-"
	Stands Act = "=" // nothing
	Leave  Act = "!" // nothing: it is an administrator's
)

// A Line is one file, and what is done with it.
type Line struct {
	Entry Entry
	Act   Act
	Path  string
	Why   string // "": it goes without saying
	text  string // of the file that is written
}

// String is the line that people see.
func (l Line) String() string {
	if l.Why == "" {
		return string(l.Act) + " " + l.Path
	}
	return fmt.Sprintf("%s %s (%s)", l.Act, l.Path, l.Why)
}

// Options are what a person says.
type Options struct {
	Caller  Caller
	Package bool // the tree of a package: all files, where packages have them
	Force   bool // administrators' files, too
}

// PlanInstall says what is to be done for each client that was found. Files that
// fail are named in the error; the others are planned.
func PlanInstall(f Facts, o Options) ([]Line, error) {
	var lines []Line
	var errs []error
	for _, e := range Table() {
		why, found := f.Found[e.Client]
		if !found && !o.Package {
			continue
		}
		l := Line{Entry: e, Path: e.At(o.Package), Why: string(e.Client) + ": " + why + " is there"}
		if o.Package {
			l.Why = "for the package"
		}
		if e.Target == "" {
			text, err := o.Caller.text(e)
			if err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", l.Path, err))
				continue
			}
			l.text = text
		}
		// Where a package has its unit, another one in /etc would stand in front of it.
		if !o.Package && e.Packaged != e.Path && f.whose(e, e.Packaged) == ours {
			lines = append(lines, Line{Entry: e, Act: Stands, Path: e.Packaged})
			continue
		}
		lines = append(lines, l.decided(f, o.Force))
	}
	return lines, errors.Join(errs...)
}

// decided says what is done where a file is wanted.
func (l Line) decided(f Facts, force bool) Line {
	there, whose := f.Files[l.Path], f.whose(l.Entry, l.Path)
	switch {
	case whose == nobodys:
		l.Act = Write
	case whose == administrators && !force:
		l.Act, l.Why = Leave, "an administrator's: --force replaces it"
	case l.Entry.Target != "" && there.Target == l.Entry.Target, l.Entry.Target == "" && there.Type == 0 && there.Text == l.text && there.Mode == l.Entry.Mode:
		l.Act, l.Why = Stands, ""
	case there.Type == 0 && there.Text == l.text:
		l.Act, l.Why = Write, fmt.Sprintf("mode %#o, it had %#o", l.Entry.Mode, there.Mode)
	default:
		l.Act, l.Why = Write, "another version"
		if whose == administrators {
			l.Why = "--force: it was an administrator's"
		}
	}
	return l
}

// PlanUninstall says what is to be done with each file of the table that there is.
func PlanUninstall(f Facts, force bool) []Line {
	var lines []Line
	for _, e := range Table() {
		for _, p := range places(e) {
			l := Line{Entry: e, Act: Remove, Path: p}
			switch whose := f.whose(e, p); {
			case whose == nobodys:
				continue
			case whose == administrators && force:
				l.Why = "--force: it was an administrator's"
			case whose == administrators:
				l.Act, l.Why = Leave, "an administrator's: --force removes it"
			}
			lines = append(lines, l)
		}
	}
	return lines
}

// places are the paths of an entry.
func places(e Entry) []string {
	if e.Packaged == e.Path {
		return []string{e.Path}
	}
	return []string{e.Path, e.Packaged}
}

type owner int

const (
	nobodys owner = iota // nothing is there
	ours
	administrators
)

// whose says whose the file at a path of an entry is. A file is ours by its hash,
// of whatever version it is, and a link by where it leads.
func (f Facts) whose(e Entry, path string) owner {
	there, exists := f.Files[path]
	switch {
	case !exists:
		return nobodys
	case e.Target != "" && there.Type == fs.ModeSymlink && there.Target == e.Target:
		return ours
	case e.Target == "" && there.Type == 0 && sealed(there.Text):
		return ours
	}
	return administrators
}
