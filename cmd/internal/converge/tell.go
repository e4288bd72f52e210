package converge

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"

	"wg-multihome/cmd/internal/state"
)

// eventVariable is in the environment of hooks. A hook that calls us back has
// it, and what it changes is told by the run that called the hook.
const eventVariable = "MULTIHOMED_EVENT"

// Told reports whether this process was started by a hook of ours.
func Told() bool { return os.Getenv(eventVariable) != "" }

// tellRounds bounds how often a run that has told looks again for what came
// while it did: runs that found it telling did not wait.
const tellRounds = 3

// tell refreshes the tunnels of whatever is new and runs the hooks for it, one
// run of ours at a time, and
// writes down what was told only after it was: a run that is killed loses no
// event. last is what was read after the last step; where it has no news there
// is no need to gather once more. What is told is gathered afresh.
func (h *Host) tell(ctx context.Context, last View) []error {
	errs := failedTellings{}
	for round := range tellRounds {
		pending, readErrs := h.newsIn(last)
		if round > 0 {
			pending, readErrs = h.pending(ctx)
		}
		due, err := h.due()
		if err != nil {
			errs.add("due", err)
		}
		if len(pending)+len(due) == 0 {
			return append(readErrs, errs.list()...)
		}
		unlock, mine, err := h.State.TryTell()
		switch {
		case err != nil && Told():
			// Without a lock, hooks that call us would be called without end.
			return append(readErrs, err)
		case err != nil:
			errs.add("", err)
		case !mine:
			return append(readErrs, errs.list()...)
		}
		again := h.tellAll(ctx, errs)
		if unlock != nil {
			unlock()
		}
		if !again {
			return errs.list()
		}
	}
	return errs.list()
}

// pending gathers afresh, and returns what is to be told.
func (h *Host) pending(ctx context.Context) ([]News, []error) {
	v, err := h.Look(ctx)
	if err != nil {
		return nil, []error{fmt.Errorf("look for news: %w", err)}
	}
	return h.newsIn(v)
}

// refreshFor refreshes the tunnels of uplinks that have news, each once, and
// those that are noted as due. The former are noted too: what cannot be
// refreshed now is told all the same, and would be news no longer.
func (h *Host) refreshFor(ctx context.Context, v View, news []News, errs failedTellings) {
	var devices []string
	for _, n := range news {
		devices = append(devices, n.Tunnel...)
	}
	h.note(v.perhaps(devices)...)
	r := refresh{host: h, noted: true}
	for _, err := range r.run(ctx, devices) {
		errs.add("refresh "+err.Error(), err)
	}
}

func (h *Host) newsIn(v View) ([]News, []error) {
	var errs []error
	news := v.news(func(uplink string) state.Told {
		told, err := h.State.ReadTold(uplink)
		if err != nil {
			errs = append(errs, err)
		}
		return told
	})
	return news, errs
}

// tellAll tells what is new under the lock, and reports whether to look again:
// not where something could not be written down, it would be told for ever.
func (h *Host) tellAll(ctx context.Context, errs failedTellings) (again bool) {
	v, err := h.Look(ctx)
	if err != nil {
		errs.add("look", fmt.Errorf("look for news: %w", err))
		return false
	}
	news, _ := h.newsIn(v)
	h.refreshFor(ctx, v, news, errs)
	again = true
	for _, n := range news {
		h.Log.Infof("%s has %s in IPv%s: %s", n.Uplink, n.Now.Address, n.Family, n.Event)
		ran, err := h.runHooks(ctx, n)
		if err != nil {
			errs.add(n.Uplink+n.Family.String(), fmt.Errorf("tell hooks of %s: %w", n.Uplink, err))
		}
		if !ran {
			return false
		}
		told, _ := h.State.ReadTold(n.Uplink) // an unreadable one is replaced
		if err := h.State.WriteTold(n.Uplink, n.merge(told)); err != nil {
			errs.add("write "+n.Uplink, err)
			again = false
		}
	}
	return again
}

// failedTellings are errors, each kept once however often it is met.
type failedTellings map[string]error

func (f failedTellings) add(key string, err error) { f[key] = err }

func (f failedTellings) list() []error {
	errs := make([]error, 0, len(f))
	for _, key := range sortedKeys(f) {
		errs = append(errs, f[key])
	}
	return errs
}

func formatUint(n uint32) string { return strconv.FormatUint(uint64(n), 10) }

func joinWords(words []string) string { return strings.Join(words, " ") }
