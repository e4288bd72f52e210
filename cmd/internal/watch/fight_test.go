package watch

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

// ms is a time, in milliseconds since a beginning.
func ms(n int) time.Time {
	return time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).Add(time.Duration(n) * time.Millisecond)
}

const guard = "+ rule 4 32754 fwmark 0x2005 unreachable"

// fought has an object be put, and taken again each time so long after it was put,
// until the end. It returns when it was put.
func fought(f *Fights, after, end int) (puts []int) {
	f.Put(ms(0), guard)
	for now := after; now < end; {
		if f.Holds(ms(now), guard, true) {
			now = int(f.Next().Sub(ms(0)) / time.Millisecond)
			continue
		}
		f.Put(ms(now), guard)
		puts = append(puts, now)
		now += after
	}
	return puts
}

// TestFight: what is taken at once, again and again, is put more and more slowly.
func TestFight(t *testing.T) {
	var f Fights
	puts := fought(&f, 1, 6000)
	want := []int{1, 2, 53, 154, 355, 756, 1557, 2558, 3559, 4560, 5561}
	if !slices.Equal(puts, want) {
		t.Errorf("put at %v ms, want %v", puts, want)
	}
	if news := f.News(); !slices.Equal(news, []string{guard}) || len(f.News()) != 0 || f.Active() != 1 {
		t.Errorf("said of it: %v", news)
	}
	f.Put(ms(6000), guard)
	if f.Holds(ms(17000), guard, true) {
		t.Error("held, though nobody has taken it for 10 s")
	}
	f.Put(ms(17000), guard)
	if f.Holds(ms(17001), guard, true) {
		t.Error("held at the first time that it is taken again")
	}
}

// TestSlowlyTaken: anything slower is put at once.
func TestSlowlyTaken(t *testing.T) {
	var f Fights
	puts := fought(&f, 200, 4000)
	for i, at := range puts {
		if at != 200*(i+1) {
			t.Fatalf("put at %v ms", puts)
		}
	}
}

// TestOwnChanges: what watch itself takes away and puts back, or exchanges, as often and
// as fast as it may be, is put at once.
func TestOwnChanges(t *testing.T) {
	for _, steps := range [][]string{
		{guard, "-" + guard[1:]},
		{"= nft chain lock_0x2005 (4 rules)", "= nft chain lock_0x2005 (5 rules)"},
		{"= link up2 group 77", "= link up2 group 0"},
	} {
		var f Fights
		for i := range 20 {
			if step := steps[i%2]; f.Holds(ms(10*i), step, true) {
				t.Fatalf("%q is held", step)
			} else {
				f.Put(ms(10*i), step)
			}
		}
		if news := f.News(); len(news) > 0 {
			t.Errorf("a fight for %v", news)
		}
	}
}

// TestByTheKernel: what nobody has taken is put at once, in the midst of a fight too.
func TestByTheKernel(t *testing.T) {
	var f Fights
	fought(&f, 1, 1000)
	f.Put(ms(1000), guard)
	if f.Holds(ms(1001), guard, false) || !f.Next().IsZero() {
		t.Error("it is held")
	}
	f.Put(ms(1001), guard)
	if !f.Holds(ms(1002), guard, true) {
		t.Error("the fight is forgotten")
	}
}

// TestOthersAreNotHeld: a back-off is an object's own.
func TestOthersAreNotHeld(t *testing.T) {
	var f Fights
	fought(&f, 1, 1000)
	if f.Holds(ms(1000), "+ rule 6 32754 fwmark 0x2005 unreachable", true) {
		t.Error("another object is held")
	}
}

// TestWantedNoLonger: what is left for later and not wanted any more wakes nobody.
func TestWantedNoLonger(t *testing.T) {
	var f Fights
	fought(&f, 1, 1000)
	f.Holds(ms(1000), guard, true)
	if f.Next().IsZero() {
		t.Fatal("nothing is held")
	}
	f.Settled(nil)
	if at := f.Next(); !at.IsZero() {
		t.Errorf("to be looked at again at %s", at)
	}
}

func TestFightsAreBounded(t *testing.T) {
	var f Fights
	for i := range 2 * maxFights {
		f.Put(ms(i), fmt.Sprint(i))
	}
	if len(f.objects) > maxFights {
		t.Errorf("%d objects", len(f.objects))
	}
	f.Forget(ms(1000 * 1000))
	if len(f.objects) != 0 {
		t.Errorf("%d objects are remembered", len(f.objects))
	}
}
