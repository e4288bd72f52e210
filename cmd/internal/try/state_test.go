package try

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"wg-multihome/cmd/internal/state"
	"wg-multihome/fwmark"
	"wg-multihome/fwmark/config"
)

// loaded reads a configuration with one mark from a file.
func loaded(t *testing.T, mark string) config.Config {
	t.Helper()
	file := filepath.Join(t.TempDir(), "c.toml")
	text := "[uplink.wan1]\nfwmark = \"" + mark + "\"\ngateway = [\"192.0.2.1\"]\ncgroups = []\nthrough = [\"198.51.100.0/24\"]\n"
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	c := config.Load(context.Background(), config.Files{Interfaces: "/none", TOML: file})
	if len(c.Problems) > 0 {
		t.Fatal(c.Problems)
	}
	return c
}

func marks(c config.Config) (list []string) {
	for _, in := range c.Intents {
		list = append(list, in.Mark.String())
	}
	return list
}

// TestInForce: a pending try counts until its time is over; then what was before it,
// with a word about it, until the files change.
func TestInForce(t *testing.T) {
	before, tried, other := loaded(t, "0x1"), loaded(t, "0x2"), loaded(t, "0x3")
	now := Now{"boot", time.Hour}
	s := Next(nil, now, "a", time.Minute, time.Now(), tried, &before)
	later, rebooted := Now{"boot", time.Hour + time.Minute}, Now{"another", time.Second}
	undone := s
	undone.Undone = true
	for name, c := range map[string]struct {
		s         State
		read      config.Config
		now       Now
		undoing   bool
		mark      string
		withdrawn bool
		said      bool
	}{
		"pending":              {s, tried, now, false, "0x2", false, false},
		"time is over":         {s, tried, later, false, "0x1", false, true},
		"rebooted":             {s, tried, rebooted, false, "0x1", false, true},
		"undone":               {undone, tried, now, false, "0x1", false, true},
		"files have changed":   {undone, other, later, false, "0x3", false, false},
		"undoing":              {undone, tried, now, true, "0x1", false, false},
		"nothing was in force": {State{Undone: true, Tried: tried.Digest()}, tried, now, false, "", true, true},
	} {
		got := c.s.InForce(c.read, c.now, c.undoing)
		m := ""
		if list := marks(got); len(list) > 0 {
			m = list[0]
		}
		if m != c.mark || got.Withdrawn != c.withdrawn || (len(got.Problems) > 0) != c.said || got.Digest() != c.read.Digest() {
			t.Errorf("%s: mark %q, withdrawn %t, %v", name, m, got.Withdrawn, got.Problems)
		}
	}
}

// TestNextKeepsWhatWasBeforeTheFirst, unless that one is over.
func TestNextKeepsWhatWasBeforeTheFirst(t *testing.T) {
	before, first, second := loaded(t, "0x1"), loaded(t, "0x2"), loaded(t, "0x3")
	now := Now{"boot", time.Hour}
	s := Next(nil, now, "a", time.Minute, time.Now(), first, &before)
	if n := Next(&s, now, "b", time.Minute, time.Now(), second, &first); n.Before.Intents[0].Mark != before.Intents[0].Mark || n.Tried != second.Digest() {
		t.Errorf("%+v", n)
	}
	if n := Next(&s, Now{"boot", 2 * time.Hour}, "b", time.Minute, time.Now(), second, &first); n.Before.Intents[0].Mark != first.Intents[0].Mark {
		t.Errorf("%+v", n)
	}
}

// TestKeeper writes and reads: what was in force comes back as it was.
func TestKeeper(t *testing.T) {
	ctx := context.Background()
	k := Keeper{Dir: state.Dir(t.TempDir()), State: state.Dir(t.TempDir())}
	if _, err := k.Confirm(ctx); !errors.Is(err, ErrNone) {
		t.Errorf("confirm: %v", err)
	}
	before, tried := loaded(t, "0x1"), loaded(t, "0x2/0xf")
	if _, err := k.Begin(ctx, tried, config.Files{}, true, time.Minute); err == nil {
		t.Error("a try begins though nobody knows what stands")
	}
	if err := k.Note(before); err != nil {
		t.Fatal(err)
	}
	s, err := k.Begin(ctx, tried, config.Files{TOML: "/x"}, true, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	read, err := k.Read()
	if err != nil || read.ID != s.ID || read.File != "/x" {
		t.Fatalf("%+v %v", read, err)
	}
	equal := cmp.Options{cmp.Comparer(func(a, b netip.Addr) bool { return a == b }), cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })}
	if d := cmp.Diff(before.Intents, read.Before.Intents, equal); d != "" || read.Before.Priority != fwmark.DefaultPriority || read.Before.Group != before.Group {
		t.Errorf("what was in force (-was +came back): %s", d)
	}
	if undone, err := k.Undo(ctx, "another"); undone != nil || err != nil {
		t.Errorf("another try's end: %v %v", undone, err)
	}
	if undone, err := k.Undo(ctx, s.ID); undone == nil || err != nil {
		t.Errorf("undo: %v %v", undone, err)
	}
	if _, err := k.Confirm(ctx); !errors.Is(err, ErrOver) {
		t.Errorf("confirm what is undone: %v", err)
	}
	if _, err := k.Undo(ctx, ""); !errors.Is(err, ErrNone) {
		t.Errorf("undo what is undone: %v", err)
	}
	if err := k.Nothing(); err != nil { // a reboot takes that note along
		t.Fatal(err)
	}
	if again, err := k.Begin(ctx, loaded(t, "0x3"), config.Files{TOML: "/x"}, true, time.Minute); err != nil || again.Before == nil || again.Before.Intents[0].Mark != before.Intents[0].Mark {
		t.Errorf("the next try goes back to %+v, %v", again.Before, err)
	}
}
