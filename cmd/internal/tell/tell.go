package tell

import (
	"context"
	"fmt"
	"maps"
	"os"
	"slices"
	"time"

	"wg-multihome/cmd/internal/decide"
	"wg-multihome/cmd/internal/logging"
	"wg-multihome/cmd/internal/refresh"
	"wg-multihome/cmd/internal/state"
)

// eventVariable is in the environment of hooks. A hook that calls us back has
// it, and what it changes is told by the run that called the hook.
const eventVariable = "MULTIHOMED_EVENT"

// CalledByHook reports whether a hook of ours has started this process.
func CalledByHook() bool { return os.Getenv(eventVariable) != "" }

// rounds bounds how often a run that has told looks for what came while it did:
// runs that found it telling did not wait.
const rounds = 3

// Teller tells what is new.
type Teller struct {
	State     state.Dir
	Log       *logging.Logger
	Refresher *refresh.Refresher

	// Outside has hooks run by systemd, where it runs: what this process may not do,
	// as a unit that is hardened, they may.
	Outside bool

	errs   failures
	budget time.Duration // what is left of the time for hooks
}

// Tell refreshes the tunnels of whatever is new and runs the hooks for it, one
// run of ours at a time. last is what was decided last; where it has no news
// there is no need to observe the host again. spent is the time that devices
// have taken.
func (t *Teller) Tell(ctx context.Context, last decide.Decision, spent time.Duration) []error {
	t.errs, t.budget = failures{}, last.Config.HookTimeout
	if !t.pending(last) {
		return t.errs.list()
	}
	for range rounds {
		unlock, mine, err := t.State.TryTell()
		switch {
		case err != nil && CalledByHook():
			// Without a lock, hooks that call us would be called without end.
			t.errs.add("", err)
			return t.errs.list()
		case err != nil:
			t.errs.add("", err)
		case !mine:
			return t.errs.list()
		}
		before := t.State.LastRun()
		again := t.tell(ctx, spent)
		if unlock != nil {
			unlock()
		}
		// A run that came meanwhile has left what is new to this one.
		if now := t.State.LastRun(); !again || now.Equal(before) && !now.IsZero() {
			return t.errs.list()
		}
	}
	return t.errs.list()
}

// Pending returns what is to be told by a decision, and the devices that are noted
// as due. What cannot be read of either, whoever tells says.
func Pending(dir state.Dir, d decide.Decision) (news []decide.News, due []string) {
	notes, _ := dir.Due()
	return untold(dir, d, func(string, error) {}), slices.Sorted(maps.Keys(notes))
}

// untold returns what is to be told, by what was told before.
func untold(dir state.Dir, d decide.Decision, failed func(uplink string, err error)) []decide.News {
	return d.News(func(uplink string) state.Told {
		told, err := dir.ReadTold(uplink)
		if err != nil {
			failed(uplink, err)
		}
		return told
	})
}

// pending reports whether there is anything to tell, or to refresh.
func (t *Teller) pending(d decide.Decision) bool {
	due, err := t.Refresher.Due.Devices()
	if err != nil {
		t.errs.add("due", err)
	}
	return len(t.news(d))+len(due) > 0
}

// news returns what is to be told.
func (t *Teller) news(d decide.Decision) []decide.News {
	return untold(t.State, d, func(uplink string, err error) { t.errs.add("told "+uplink, err) })
}

// tell tells what is new, once, and reports whether to look for more: not where
// something could not be written down, it would be told for ever. Tunnels are
// noted as due first: what cannot be refreshed now is told all the same, and
// would be news no longer.
func (t *Teller) tell(ctx context.Context, spent time.Duration) (again bool) {
	x := t.Refresher.Begin(ctx, spent)
	news := t.news(x.Decision)
	var devices []string
	for _, n := range news {
		devices = append(devices, n.Devices...)
	}
	t.Refresher.Due.Mark(x.Decision.Reachable(devices)...)
	for _, err := range x.Run(ctx, devices, true) {
		t.errs.add("refresh "+err.Error(), err)
	}
	again = true
	for _, n := range news {
		told, wrote := t.tellHooks(ctx, n)
		if !told {
			return false
		}
		again = again && wrote
	}
	return again
}

// tellHooks runs the hooks for one piece of news, and writes down that it was
// told.
func (t *Teller) tellHooks(ctx context.Context, n decide.News) (told, wrote bool) {
	t.Log.Infof("%s has %s in IPv%s: %s", n.Uplink, n.Now.Address, n.Family, n.Event)
	begun := time.Now()
	ran, err := runHooks(ctx, t.Log, n, t.budget, t.Outside)
	t.budget -= time.Since(begun)
	if err != nil {
		t.errs.add(n.Uplink+n.Family.String(), fmt.Errorf("tell hooks of %s: %w", n.Uplink, err))
	}
	if !ran {
		return false, false
	}
	before, _ := t.State.ReadTold(n.Uplink) // an unreadable one is replaced
	if err := t.State.WriteTold(n.Uplink, n.After(before)); err != nil {
		t.errs.add("write "+n.Uplink, err)
		return true, false
	}
	return true, true
}

// failures are errors, each kept once however often it is met.
type failures map[string]error

func (f failures) add(key string, err error) { f[key] = err }

func (f failures) list() []error {
	keys := make([]string, 0, len(f))
	for key := range f {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	errs := make([]error, 0, len(f))
	for _, key := range keys {
		errs = append(errs, f[key])
	}
	return errs
}
