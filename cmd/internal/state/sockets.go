package state

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"

	"wg-multihome/fwmark"
)

// socketsFile tells of services that are marked by socket.
const socketsFile = "sockets.json"

// maxSockets bounds what is read of it, in bytes: some thousand cgroups.
const maxSockets = 4 << 20

// Sockets is where sockets may have marks from.
type Sockets struct {
	Cgroups []string          `json:"cgroups"` // those that may have programs of ours, by path, sorted
	Marks   map[string]string `json:"marks"`   // the uplink that sockets with a mark are pinned to

	// Whole says that every cgroup was asked since the notes were begun: no other one
	// has programs of ours.
	Whole bool `json:"whole,omitempty"`
}

// Clone returns a copy.
func (s Sockets) Clone() Sockets {
	s.Cgroups, s.Marks = slices.Clone(s.Cgroups), maps.Clone(s.Marks)
	return s
}

// Add notes a cgroup that is about to get programs of an uplink's mark.
func (s Sockets) Add(cgroup string, m fwmark.Mark, uplink string) Sockets {
	s = s.AddMark(m, uplink)
	if i, there := slices.BinarySearch(s.Cgroups, cgroup); !there {
		s.Cgroups = slices.Insert(s.Cgroups, i, cgroup)
	}
	return s
}

// AddMark notes a mark that sockets of an uplink are about to get.
func (s Sockets) AddMark(m fwmark.Mark, uplink string) Sockets {
	s = s.Clone()
	if s.Marks == nil {
		s.Marks = map[string]string{}
	}
	s.Marks[m.String()] = uplink
	return s
}

// Drop forgets cgroups.
func (s Sockets) Drop(cgroups ...string) Sockets {
	s = s.Clone()
	s.Cgroups = slices.DeleteFunc(s.Cgroups, func(c string) bool { return slices.Contains(cgroups, c) })
	return s
}

// DropMark forgets a mark that no socket has any more.
func (s Sockets) DropMark(m fwmark.Mark) Sockets {
	s = s.Clone()
	delete(s.Marks, m.String())
	return s
}

// Equal reports whether both tell the same.
func (s Sockets) Equal(o Sockets) bool {
	return s.Whole == o.Whole && slices.Equal(s.Cgroups, o.Cgroups) && maps.Equal(s.Marks, o.Marks)
}

// ReadSockets returns what was noted last; nothing where no service was marked by
// socket since the host was started, or the notes are lost.
func (d Dir) ReadSockets() (Sockets, error) {
	var s Sockets
	switch err := d.ReadJSON(socketsFile, &s, maxSockets); {
	case errors.Is(err, fs.ErrNotExist):
		return Sockets{}, nil
	case err != nil:
		return Sockets{}, fmt.Errorf("read which sockets were marked: %w", err)
	}
	slices.Sort(s.Cgroups)
	return s, nil
}

// WriteSockets notes which sockets are about to be marked. With nothing to tell
// there is no file.
func (d Dir) WriteSockets(s Sockets) error {
	if err := d.writeSockets(s); err != nil {
		return fmt.Errorf("note which sockets are marked: %w", err)
	}
	return nil
}

func (d Dir) writeSockets(s Sockets) error {
	if len(s.Cgroups)+len(s.Marks) == 0 && !s.Whole {
		return remove(filepath.Join(string(d), socketsFile))
	}
	return d.WriteJSON(socketsFile, s)
}
