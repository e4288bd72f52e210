package state

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"wg-multihome/fwmark"
)

func TestSockets(t *testing.T) {
	d := Dir(filepath.Join(t.TempDir(), "state"))
	one, two := fwmark.Mark{Value: 1, Mask: fwmark.FullMask}, fwmark.Mark{Value: 0x200, Mask: 0xff00}
	read := func(want Sockets) {
		t.Helper()
		got, err := d.ReadSockets()
		if err != nil || !got.Equal(want) {
			t.Errorf("read %v, %v, want %v", got, err, want)
		}
	}
	read(Sockets{})
	s := Sockets{}.Add("b.service", one, "up1")
	before := s.Clone()
	s = s.Add("a.service", two, "up2").Add("b.service", one, "up1")
	if len(s.Cgroups) != 2 || s.Cgroups[0] != "a.service" || s.Marks["0x200/0xff00"] != "up2" || len(before.Cgroups) != 1 {
		t.Errorf("noted %v, and before %v", s, before)
	}
	for _, next := range []Sockets{s, s.Drop("a.service"), s.DropMark(one)} {
		if err := d.WriteSockets(next); err != nil {
			t.Fatal(err)
		}
		read(next)
	}
	if err := d.WriteSockets(s.Drop(s.Cgroups...).DropMark(one).DropMark(two)); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(string(d), socketsFile)); !os.IsNotExist(err) {
		t.Errorf("nothing is noted, and there is a file: %v", err)
	}
	read(Sockets{})
	whole := Sockets{Whole: true}
	if err := d.WriteSockets(whole); err != nil {
		t.Fatal(err)
	}
	read(whole)
	if err := os.WriteFile(filepath.Join(string(d), socketsFile), []byte("{"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := d.ReadSockets(); err == nil || !strings.Contains(err.Error(), socketsFile) {
		t.Errorf("half a file: %v", err)
	}
}
