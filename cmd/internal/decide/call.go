package decide

import (
	"fmt"
	"slices"
	"strconv"

	"wg-multihome/fwmark"
	"wg-multihome/policy"
)

// Call is what the original shell script's run-parts says of an uplink.
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

// ForCall decides for hosts that keep the original shell script: it keeps rules
// and routes, and the devices of the called uplink and the nftables table are
// ours. Guards count whoever made them; the script makes none for IPv6.
func ForCall(o Observation, m Memory, c Call) Decision {
	d := observed(o, m)
	d.scope, d.call = called, c
	d = d.wanted()
	d.Errs = slices.DeleteFunc(d.Errs, func(err error) bool { return slices.Contains(d.Rules.Errs, err) })
	mark, _ := d.PinOf(c.Uplink)
	if mark != c.Mark {
		d.Problems = append(slices.Clip(d.Problems), fwmark.Problem{
			Text: fmt.Sprintf("FWMARK=%s of IFACE=%s is not the configured mark, %s", textOf(c.Mark), c.Uplink, textOf(mark)),
		})
		d.scope = refused
	}
	return d
}

func textOf(m fwmark.Mark) string {
	if m.IsZero() {
		return `"" (none)`
	}
	return m.String()
}

// guardedForCall reports whether a mark has the guards that a call needs: the script's, or
// ours in each family. Ours in one family alone are left by a run that was killed.
func (d Decision) guardedForCall(m fwmark.Mark) bool {
	return policy.ScriptGuards(d.Facts, m) || policy.Guarded(d.Facts, m)
}

// ledAway returns an uplink that the rules lead a mark to, whoever made them, and
// that is not its pin's; "" where there is none. The script may not have come to
// that mark as yet, or not know of another number.
func (d Decision) ledAway(m fwmark.Mark) string {
	i := slices.IndexFunc(d.Pins, func(p fwmark.Pin) bool { return p.Mark == m })
	if i < 0 {
		return ""
	}
	for _, device := range policy.LedTo(d.Facts, m) {
		if device != d.Pins[i].Uplink {
			return device
		}
	}
	return ""
}

// Called returns the devices of the called uplink that are to be refreshed:
// those whose mark has guards, and leads to no other uplink. errs names the other
// marks, and without says which marks lack them for IPv6 alone.
func (d Decision) Called() (devices []string, errs []error, without []fwmark.Mark) {
	for _, p := range d.calledPins() {
		away := d.ledAway(p.Mark)
		switch {
		case away != "":
			errs = append(errs, fmt.Errorf("rules lead mark %s of %s to %q, so no device gets it", p.Mark, p.Uplink, away))
		case d.guardedForCall(p.Mark):
			devices = append(devices, p.Devices...)
			if d.Facts.Families[fwmark.IPv6] && !policy.Guards(d.Facts, p.Mark)[fwmark.IPv6] {
				without = append(without, p.Mark)
			}
		case !p.Full: // the script knows nothing of full tunnels; the device keeps its mark
			errs = append(errs, fmt.Errorf("mark %s of %s has no unreachable rule of others in IPv4, nor ours in each family, so no device gets it", p.Mark, p.Uplink))
		}
	}
	return d.Reachable(devices), errs, without
}

// calledPins are the pins of the called uplink that have devices.
func (d Decision) calledPins() []fwmark.Pin {
	return slices.DeleteFunc(slices.Clone(d.Pins), func(p fwmark.Pin) bool {
		return d.scope == refused || p.Uplink != d.call.Uplink || len(p.Devices) == 0
	})
}
