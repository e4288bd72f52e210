package converge

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"wg-multihome/fwmark"
	"wg-multihome/policy"
	"wg-multihome/wg"
)

// Call is what the original shell script's run-parts says.
type Call struct {
	Uplink string
	Mark   fwmark.Mark // zero: FWMARK is empty
	Table  uint32
}

// ParseCall reads IFACE, FWMARK and TABLE_ID, strictly: they are what a DHCP
// server may have had a hand in. lookup is os.LookupEnv or the like.
func ParseCall(lookup func(string) (string, bool)) (Call, error) {
	iface, _ := lookup("IFACE")
	if err := fwmark.ValidName(iface); err != nil {
		return Call{}, fmt.Errorf("IFACE=%.120q %w", iface, err)
	}
	call := Call{Uplink: iface}
	if text, _ := lookup("FWMARK"); text != "" {
		var err error
		if call.Mark, err = fwmark.Parse(text); err != nil {
			return Call{}, fmt.Errorf("FWMARK=%.120q: %w", text, err)
		}
	}
	text, _ := lookup("TABLE_ID")
	table, err := strconv.ParseUint(text, 10, 32)
	if err != nil || table == 0 {
		return Call{}, fmt.Errorf("TABLE_ID=%.120q is no table number: 1 to 4294967295", text)
	}
	call.Table = uint32(table)
	return call, nil
}

// ErrMark says that the shell script's mark is not the configured one.
var ErrMark = errors.New("is not the configured mark")

// Hook sets the marks of an uplink's devices, brings the nftables table up to
// date, and refreshes the devices. The shell script keeps rules and routes, so
// guards count whoever made them; it makes none for IPv6.
func (h *Host) Hook(ctx context.Context, call Call, wait time.Duration) Report {
	var devices []string
	report := h.Locked(ctx, wait, func(ctx context.Context) (report Report) {
		devices, report = h.hook(ctx, call)
		return report
	})
	if len(devices) > 0 {
		h.note(devices...) // should it be cut short
		r := refresh{host: h}
		report.Errs = append(report.Errs, r.run(ctx, devices)...)
	}
	return report
}

// hook returns the devices that are to be refreshed: those of the uplink whose
// marks have guards.
func (h *Host) hook(ctx context.Context, call Call) (devices []string, report Report) {
	v, err := h.Look(ctx)
	if err != nil {
		return nil, Report{Errs: []error{err}}
	}
	report.Problems = v.Problems
	for _, err := range v.Errs {
		if !slices.Contains(v.Wanted.Errs, err) { // those are about rules
			report.Errs = append(report.Errs, err)
		}
	}
	mark, _ := v.pinned(call.Uplink)
	if mark != call.Mark {
		report.Problems = append(report.Problems, fwmark.Problem{
			Text: fmt.Sprintf("FWMARK=%s of IFACE=%s %s, %s", textOf(call.Mark), call.Uplink, ErrMark, textOf(mark)),
		})
		return nil, report
	}
	var pins []fwmark.Pin
	for _, p := range v.Pins {
		if p.Uplink != call.Uplink || len(p.Devices) == 0 {
			continue
		}
		guards := policy.Guards(v.Facts, p.Mark)
		if p.Full && !guards[fwmark.IPv4] {
			continue // the script knows nothing of full tunnels; the device keeps its mark
		}
		if !guards[fwmark.IPv4] {
			report.Errs = append(report.Errs, fmt.Errorf("mark %s of %s has no unreachable rule, so no device gets it", p.Mark, p.Uplink))
			continue
		}
		if v.Facts.Families[fwmark.IPv6] && !guards[fwmark.IPv6] {
			h.Log.Infof("mark %s of %s has no unreachable rule for IPv6: an endpoint there is not held", p.Mark, p.Uplink)
		}
		pins = append(pins, p)
		devices = append(devices, p.Devices...)
	}
	failed := failures{}
	h.applyTable(ctx, v, v.unguarded(func(m fwmark.Mark) bool { return policy.Guards(v.Facts, m)[fwmark.IPv4] }), &failed)
	h.change(ctx, wg.Want(v.Devices, pins), &failed)
	for _, key := range sortedKeys(failed) {
		report.add(failed[key])
	}
	return v.perhaps(devices), report
}

func textOf(m fwmark.Mark) string {
	if m.IsZero() {
		return `"" (none)`
	}
	return m.String()
}
