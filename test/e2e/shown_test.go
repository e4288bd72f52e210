package e2e

import (
	"encoding/json"
	"strings"
	"testing"
)

// TestNothingToDo is said by plan to a person, not to what reads the steps.
func TestNothingToDo(t *testing.T) {
	l := newLab(t)
	l.Static()
	l.Interfaces(pinned)
	const nothing = "wg-multihome: nothing to do\n"
	wantNone(t, "plan", l.MustMH("plan").Stderr, nothing)
	l.MustMH("sync")
	r := l.MustMH("plan")
	wantEqual(t, "steps", r.Stdout, "")
	wantEqual(t, "plan", r.Stderr, nothing)
	l.Interfaces(pinned + "\tmultihomed-bogus x\n")
	wantNone(t, "plan with an error", l.MH("plan").Stderr, nothing)
}

// TestStatusSaysItsVersion: what reads JSON can tell whether it knows it.
func TestStatusSaysItsVersion(t *testing.T) {
	l := newLab(t)
	l.Static()
	text := wantValid(t, "status", l.MustMH("status", "--json").Stdout)
	var s struct {
		Version int
		Uplinks []struct{ Name string }
	}
	if err := json.Unmarshal([]byte(text), &s); err != nil {
		t.Fatal(err)
	}
	if s.Version != 1 || len(s.Uplinks) == 0 || !strings.HasPrefix(text, "{\n\t\"version\": 1,\n") {
		t.Errorf("%+v\n%s", s, text)
	}
}
