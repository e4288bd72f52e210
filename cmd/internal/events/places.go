package events

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/fsnotify/fsnotify"

	"wg-multihome/cmd/internal/decide"
)

// Place is a file or directory that is heard of, whether it is there or not: when
// it comes, goes, is replaced or, as a file, written.
type Place struct {
	Path    string // absolute
	Entries bool   // it is a directory, and what lies right in it counts
	Cgroup  bool   // it is one: of writes in it those count that say whether something lives in it
}

// rounds bounds how often the way to a place is gone again because directories
// came while it was gone.
const rounds = 10

// places hears of files and cgroups, by inotify(7).
type places struct {
	watcher *fsnotify.Watcher

	mu    sync.Mutex
	asked []Place         // as they were named
	list  []Place         // with those that they lead to
	moved bool            // something came or went on the way to one
	armed map[string]bool // directories
}

func openPlaces() (*places, error) {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, err
	}
	return &places{watcher: w, armed: map[string]bool{}}, nil
}

func (p *places) close() { _ = p.watcher.Close() }

// follow has the places be heard of, and no others. It returns which parts of an
// observation may have changed unheard: a directory is heard of from now on.
func (p *places) follow(asked []Place, again bool) (parts decide.Parts, err error) {
	p.mu.Lock()
	same := slices.Equal(asked, p.asked) && !p.moved && !again
	p.mu.Unlock()
	if same {
		return 0, nil
	}
	list := throughLinks(asked)
	p.mu.Lock()
	p.asked, p.list, p.moved = slices.Clone(asked), list, false
	p.mu.Unlock()
	wanted := map[string]bool{}
	for _, place := range list {
		for range rounds { // until nothing has come between the look and the watch
			dirs := directories(place)
			if !slices.ContainsFunc(dirs, func(dir string) bool { return !wanted[dir] }) {
				break
			}
			for _, dir := range dirs {
				wanted[dir] = true
				fresh, failed := p.arm(dir)
				err = errors.Join(err, failed)
				if fresh {
					parts |= stale[place.kind()]
				}
			}
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for dir := range p.armed {
		if !wanted[dir] {
			delete(p.armed, dir)
			_ = p.watcher.Remove(dir) // it may be gone, and its watch with it
		}
	}
	return parts, err
}

// arm has a directory be heard of. It is asked for each time: where another one
// was mounted in its place that one counts.
func (p *places) arm(dir string) (fresh bool, err error) {
	err = p.watcher.Add(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil // its parent tells
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	fresh = err == nil && !p.armed[dir]
	p.armed[dir] = err == nil
	return fresh, err
}

func (p Place) kind() Kind {
	if p.Cgroup {
		return Cgroup
	}
	return File
}

// directories are those to be heard of for a place: the nearest one above it that
// is there and, where what lies in it counts, itself.
func directories(p Place) []string {
	var dirs []string
	if p.Entries && isDirectory(p.Path) {
		dirs = append(dirs, p.Path)
	}
	above := filepath.Dir(p.Path)
	for above != "/" && !isDirectory(above) {
		above = filepath.Dir(above)
	}
	return append(dirs, above)
}

func isDirectory(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

// throughLinks returns where the places are, links on the way to them followed:
// inotify has one name for a directory, whichever it was asked by. Of a place that is
// a link itself what it leads to counts as well.
func throughLinks(asked []Place) []Place {
	var list []Place
	for _, p := range asked {
		link := p
		link.Path = filepath.Join(resolved(filepath.Dir(p.Path)), filepath.Base(p.Path))
		target := p
		target.Path = resolved(p.Path)
		if target.Path != link.Path {
			link.Entries = false
			list = append(list, target)
		}
		list = append(list, link)
	}
	return list
}

// resolved follows the links in a path, as far as it is there.
func resolved(path string) string {
	if target, err := filepath.EvalSymlinks(path); err == nil {
		return target
	}
	if path == filepath.Dir(path) {
		return path
	}
	return filepath.Join(resolved(filepath.Dir(path)), filepath.Base(path))
}

// heard returns what an event is about.
func (p *places) heard(e fsnotify.Event) (kinds []Kind) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if e.Has(fsnotify.Remove) || e.Has(fsnotify.Rename) {
		delete(p.armed, e.Name) // a directory of that name is another one
	}
	for _, place := range p.list {
		if !place.concerns(e) {
			continue
		}
		p.moved = p.moved || !e.Has(fsnotify.Write)
		if !slices.Contains(kinds, place.kind()) {
			kinds = append(kinds, place.kind())
		}
	}
	return kinds
}

// concerns reports whether an event is about the place, or about the way to it.
func (p Place) concerns(e fsnotify.Event) bool {
	const cameOrWent = fsnotify.Create | fsnotify.Remove | fsnotify.Rename
	inside := p.Entries && filepath.Dir(e.Name) == p.Path
	switch {
	case e.Op&cameOrWent != 0:
		return inside || e.Name == p.Path || strings.HasPrefix(p.Path, strings.TrimSuffix(e.Name, "/")+"/")
	case p.Cgroup:
		return inside && e.Has(fsnotify.Write) && filepath.Base(e.Name) == "cgroup.events"
	}
	return e.Has(fsnotify.Write) && (inside || e.Name == p.Path)
}

// readPlaces takes in what inotify tells.
func (s *Source) readPlaces() {
	defer s.wait.Done()
	for {
		select {
		case e, open := <-s.places.watcher.Events:
			if !open {
				return
			}
			kinds := s.places.heard(e)
			s.mu.Lock()
			for _, k := range kinds {
				s.hear(Cause{Kind: k, Gone: e.Has(fsnotify.Remove), Text: k.String() + " " + e.Name})
			}
			s.mu.Unlock()
		case _, open := <-s.places.watcher.Errors: // its queue ran over, or a directory could not be read
			if !open {
				return
			}
			s.overrun()
		}
	}
}
