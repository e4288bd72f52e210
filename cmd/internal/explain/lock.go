package explain

import (
	"fmt"
	"slices"

	"wg-multihome/nft"
	"wg-multihome/policy"
)

// lock is what the second lock does to a packet.
type lock struct {
	text    string
	dropped bool
	why     string // "": the text says it
	mend    string
}

// passLock sends a packet with a mark through what stands of our table behind
// routing: the second lock, and what translates sources.
func (w *way) passLock(rules nft.Ruleset, missing []string) {
	d := w.x.Decision
	pin, ours := pinOf(d, w.probe.Mark)
	if w.probe.Mark == 0 {
		return
	}
	out := w.device()
	switch {
	case d.Table.Missing != nil:
		w.lock.text = "not known: " + d.Table.Missing.Error()
		return
	case slices.Contains(missing, "lock") || len(missing) > 0 && !d.Table.Have.Exists:
		w.lock = lock{text: "does not stand; `wg-multihome sync` brings it back", mend: "wg-multihome sync"}
		return
	case len(missing) > 0:
		w.lock = lock{text: "not as it is to be, so it cannot be judged; `wg-multihome sync` mends it", mend: "wg-multihome sync"}
		return
	}
	p := nft.Packet{
		Mark: w.probe.Mark, Src: w.src(), Dst: w.probe.Dst, ToHost: w.toHost(), Out: out, TCP: w.probe.Protocol == protocols["tcp"],
		FromOut: slices.ContainsFunc(d.Facts.Addrs, func(a policy.Address) bool { return a.Device == out && a.Prefix.Addr() == w.src() }),
	}
	if len(w.s.cgroups) > 0 {
		p.CtMark, p.Cgroups = p.Mark, w.s.cgroups
	}
	for _, l := range d.Facts.Links {
		if l.Name == out {
			p.OutKind = l.Kind
		}
	}
	for _, u := range d.Uplinks {
		if u.Name == out {
			p.Given = u.Address[w.family()]
		}
	}
	f := nft.WayThrough(rules).Send("postrouting", p)
	w.lock.dropped = f.Dropped
	if f.Masqueraded && f.Given.IsValid() {
		w.source = fmt.Sprintf("%s, by masquerade (its socket has %s)", f.Given, w.src())
	}
	switch {
	case f.Dropped && f.By == "lock":
		w.lock.text = fmt.Sprintf("drops it: %s is not its own uplink, and %s is not known to lie behind it", out, w.probe.Dst)
		w.lock.mend = "wg-multihome sync, where that is a LAN"
		if ours && !d.Guarded(pin.Mark) {
			w.lock.why, w.lock.mend = "the mark's rules are gone, and the second lock holds it", "wg-multihome sync"
		}
	case f.Dropped:
		w.lock.text = fmt.Sprintf("drops it: source %s is another uplink's", f.Src)
	case !ours:
		w.lock.text = "no mark of ours: passes"
	case out == pin.Uplink:
		w.lock.text = "leaves by its own uplink: passes"
	case out == "lo":
		w.lock.text = "stays on this host: passes"
	default:
		w.lock.text = fmt.Sprintf("%s lies behind %s: passes", w.probe.Dst, out)
	}
}
