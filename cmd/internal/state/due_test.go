package state

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
)

func TestDue(t *testing.T) {
	d := Dir(filepath.Join(t.TempDir(), "state"))
	if due, err := d.Due(); err != nil || len(due) != 0 {
		t.Fatalf("without a directory: %v %v", due, err)
	}
	for _, device := range []string{"wg0", "wg1", "wg0"} {
		if err := d.MarkDue(device); err != nil {
			t.Fatal(err)
		}
	}
	due, err := d.Due()
	if got := slices.Sorted(maps.Keys(due)); err != nil || !slices.Equal(got, []string{"wg0", "wg1"}) {
		t.Fatalf("got %v %v", got, err)
	}
	// Noted anew while it was refreshed: it stays due.
	if err := d.MarkDue("wg0"); err != nil {
		t.Fatal(err)
	}
	for device, note := range due {
		if err := d.ClearDue(device, note); err != nil {
			t.Error(err)
		}
	}
	if due, err = d.Due(); err != nil || len(due) != 1 || due["wg0"] == "" {
		t.Fatalf("got %v %v", due, err)
	}
	for range 2 { // one that is gone is done
		if err := d.ClearDue("wg0", due["wg0"]); err != nil {
			t.Error(err)
		}
	}
	if due, _ := d.Due(); len(due) != 0 {
		t.Errorf("left: %v", due)
	}
	if err := d.MarkDue("../x"); err == nil {
		t.Error("a name left its directory")
	}
	if err := d.ClearDue("../lock", ""); err == nil {
		t.Error("a name left its directory")
	}
}

// TestDueCutShort is what a full disk or a kill leaves.
func TestDueCutShort(t *testing.T) {
	d := Dir(t.TempDir())
	if err := d.MarkDue("wg0"); err != nil {
		t.Fatal(err)
	}
	for path, text := range map[string]string{"due/wg0": "", "due/a/b": "", "due/" + "too-long-for-an-interface": ""} {
		path = filepath.Join(string(d), path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	due, err := d.Due()
	if note, is := due["wg0"]; err != nil || len(due) != 1 || !is || note != "" {
		t.Errorf("got %v %v", due, err)
	}
}

func TestDueUnwritable(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := Dir(file).MarkDue("wg0"); err == nil {
		t.Error("no error")
	}
	if _, err := Dir(file).Due(); err == nil {
		t.Error("no error")
	}
}

// TestDueAtOnce has many note and refresh the same device. Steps are made, and
// notes are read, under the lock of the run that converges; notes are removed
// outside of it. What was noted last is refreshed after it was made.
func TestDueAtOnce(t *testing.T) {
	d := Dir(t.TempDir())
	var run sync.Mutex // STATE-DIR/lock
	made, seen := 0, 0
	// On a busy machine a note may wait for longer than a run would.
	patiently := func(note func() error) error {
		err := note()
		for i := 0; i < 20 && errors.Is(err, ErrBusy); i++ {
			err = note()
		}
		return err
	}
	step := func() error {
		run.Lock()
		defer run.Unlock()
		if err := patiently(func() error { return d.MarkDue("wg0") }); err != nil {
			return err
		}
		made++
		return nil
	}
	refresh := func() error {
		run.Lock()
		due, err := d.Due()
		if len(due) == 0 && seen != made {
			err = fmt.Errorf("nothing is due, and %d of %d steps were seen", seen, made)
		}
		if len(due) > 0 {
			seen = made
		}
		run.Unlock()
		if err != nil || len(due) == 0 {
			return err
		}
		return patiently(func() error { return d.ClearDue("wg0", due["wg0"]) })
	}
	var all sync.WaitGroup
	failed := make(chan error, 1000)
	for range 8 {
		all.Add(1)
		go func() {
			defer all.Done()
			for range 20 {
				failed <- step()
				failed <- refresh()
			}
		}()
	}
	all.Wait()
	close(failed)
	for err := range failed {
		if err != nil {
			t.Error(err)
		}
	}
	if err := refresh(); err != nil || seen != made {
		t.Errorf("the last refresh saw %d of %d steps: %v", seen, made, err)
	}
}
