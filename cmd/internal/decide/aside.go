package decide

import (
	"fmt"
	"math/bits"
	"slices"

	"wg-multihome/fwmark"
	"wg-multihome/fwmark/socket"
	"wg-multihome/policy"
)

// Uplinks exchange their numbers while sockets have all of them: none can get its
// new number before another one's have lost it. So the sockets of one are set
// aside: they get a number that is nobody's, of guards alone, until theirs is free.
// What they send is refused meanwhile. So are those of a service that goes to
// another uplink, while it gives a number that others wait for. The
// number is noted like any other as their uplink's, so that a run that finds it goes
// on from there.

// setAside finds whose sockets are to get such a number.
func (d *Decision) setAside() {
	for _, s := range d.marked.Services {
		target, is := d.marked.Targets[s.Cgroup]
		gives := d.Sockets.Have.Cgroups[s.Cgroup].Marks()
		if is && d.takenBy(target, s.Uplink) && slices.ContainsFunc(gives, func(m fwmark.Mark) bool { return d.takenBy(m, s.Uplink) }) {
			if m, ok := d.numberAside(s.Uplink, target.Mask); ok {
				d.targetAside(s.Cgroup, m)
			}
		}
	}
	i := d.waitsInCircle()
	if i < 0 {
		return
	}
	r := &d.renumbered[i]
	m, ok := d.numberAside(r.uplink, r.From.Mask|r.To.Mask)
	if !ok {
		d.Errs = append(d.Errs, fmt.Errorf("no number is free for mark %s of uplink %q, in exchange with another one's: give one of them a new number, type `wg-multihome sync`, then the other", r.From, r.uplink))
		return
	}
	for path, target := range d.marked.Targets {
		marks := d.Sockets.Have.Cgroups[path].Marks()
		if s, _ := d.Service(path); target == r.To && s.Uplink == r.uplink && (slices.Contains(marks, r.From) || slices.Contains(marks, m)) {
			d.targetAside(path, m)
		}
	}
	for j := range d.marked.Moves {
		if d.marked.Moves[j].From == r.From {
			d.marked.Moves[j].To = m
		}
	}
	r.To = m
}

// targetAside has a cgroup give a number that is nobody's, once that has guards.
func (d *Decision) targetAside(cgroup string, m fwmark.Mark) {
	if d.carriable(fwmark.Pin{Mark: m}) {
		d.marked.Targets[cgroup] = m
		return
	}
	delete(d.marked.Targets, cgroup)
	d.marked.Held[cgroup] = true
}

// waitsInCircle returns the first mark whose sockets wait, by way of others, for
// themselves; -1 where there is none.
func (d *Decision) waitsInCircle() int {
	next := func(r renumbered) int {
		return slices.IndexFunc(d.renumbered, func(o renumbered) bool { return o.uplink != r.uplink && o.From.Overlaps(r.To) })
	}
	for i, r := range d.renumbered {
		for range d.renumbered {
			if r.To.IsZero() {
				break
			}
			j := next(r)
			if j == i {
				return i
			}
			if j < 0 {
				break
			}
			r = d.renumbered[j]
		}
	}
	return -1
}

// numberAside returns a number for sockets of an uplink that are set aside: the one
// that some of them have already, or one that nothing else has. The number gets its
// guards.
func (d *Decision) numberAside(uplink string, mask uint32) (m fwmark.Mark, ok bool) {
	for m, of := range d.aside {
		if of == uplink {
			return m, true
		}
	}
	if m, ok = d.freeUnder(mask); !ok {
		m, ok = d.freeBeside(mask)
	}
	if ok {
		d.pinAside(m, uplink)
	}
	return m, ok
}

// freeUnder returns a number that nothing has, under a mask. It begins with the highest:
// others choose low ones.
func (d *Decision) freeUnder(mask uint32) (m fwmark.Mark, ok bool) {
	highest := highestUnder(mask)
	for n := highest; n > 0 && highest-n < asideTries; n-- {
		m = fwmark.Mark{Value: deposit(uint32(n), mask), Mask: mask}
		if d.isFree(m) {
			return m, true
		}
	}
	return fwmark.Mark{}, false
}

// freeBeside returns a number that nothing has where the mask has none left, as one of a
// single bit: one bit that no mask of an uplink, of another such number or of a rule of
// others has.
func (d *Decision) freeBeside(mask uint32) (m fwmark.Mark, ok bool) {
	add := func(m fwmark.Mark) {
		if m.Mask != fwmark.FullMask {
			mask |= m.Mask
		}
	}
	for _, in := range d.Config.Intents {
		add(in.Mark)
	}
	for _, c := range d.stands {
		if c.Uplink != "" {
			add(c.Mark)
		}
	}
	for m := range d.aside {
		add(m)
	}
	for _, r := range d.Facts.Rules {
		if !r.Ours() {
			add(r.Mark)
		}
	}
	for bit := uint32(1) << 31; bit != 0; bit >>= 1 {
		m = fwmark.Mark{Value: bit, Mask: mask | bit}
		if mask&bit == 0 && d.isFree(m) {
			return m, true
		}
	}
	return fwmark.Mark{}, false
}

// asideTries is how many numbers under a mask are tried.
const asideTries = 1 << 12

// highestUnder is the highest number of as many bits as a mask has.
func highestUnder(mask uint32) uint64 { return uint64(1)<<bits.OnesCount32(mask) - 1 }

// mayBeAside reports whether a mark may have been found by numberAside for a mask. One that
// others have made, such as wg-quick's of a tunnel, is not to be given to sockets.
func mayBeAside(m fwmark.Mark, mask uint32) bool {
	if m.Mask == mask {
		return highestUnder(mask)-uint64(extract(m.Value, mask)) < asideTries
	}
	return m.Mask != fwmark.FullMask && m.Mask&mask == mask && m.Value&mask == 0 && bits.OnesCount32(m.Value) == 1
}

// extract is the number that deposit has spread.
func extract(value, mask uint32) (n uint32) {
	for i := 0; mask != 0; mask &= mask - 1 {
		if value&mask&-mask != 0 {
			n |= 1 << i
		}
		i++
	}
	return n
}

// deposit spreads the low bits of a number over those of a mask.
func deposit(n, mask uint32) (value uint32) {
	for ; mask != 0; mask &= mask - 1 {
		if n&1 != 0 {
			value |= mask & -mask
		}
		n >>= 1
	}
	return value
}

// isFree reports whether nothing that is known has a mark's number, or may get it.
// Guards of it may stand: then they were made for this.
func (d *Decision) isFree(m fwmark.Mark) bool {
	if d.aside[m] != "" {
		return false
	}
	has := func(o fwmark.Mark) bool { return !o.IsZero() && o.Overlaps(m) }
	if slices.ContainsFunc(d.Pins, func(p fwmark.Pin) bool { return has(p.Mark) && !(p.Mark == m && p.Uplink == "") }) ||
		slices.ContainsFunc(d.stands, func(c fwmark.Claim) bool { return has(c.Mark) && !(c.Mark == m && c.Uplink == "") }) ||
		slices.ContainsFunc(d.Config.Intents, func(in fwmark.Intent) bool { return has(in.Mark) }) ||
		slices.ContainsFunc(d.renumbered, func(r renumbered) bool { return has(r.From) }) ||
		slices.ContainsFunc(d.Facts.Rules, func(r policy.Rule) bool { return !r.Ours() && (has(r.Mark) || r.Table == m.Value) }) {
		return false
	}
	for _, device := range d.Devices.Found {
		if m.Selects(device.Mark) {
			return false
		}
	}
	for text := range d.Sockets.Noted.Marks {
		if o, err := fwmark.Parse(text); err == nil && has(o) {
			return false
		}
	}
	_, table := d.tables()[m.Value]
	return !table
}

// isAside reports whether sockets may have a mark that nothing is pinned by and
// that leads nowhere: it is kept for them, by guards alone.
func (d *Decision) isAside(m fwmark.Mark) bool {
	leads := func(c fwmark.Claim) bool { return c.Mark.Overlaps(m) && c.Uplink != "" }
	pinned := func(p fwmark.Pin) bool { return p.Mark.Overlaps(m) && !(p.Mark == m && p.Uplink == "") }
	return !slices.ContainsFunc(d.stands, leads) && !slices.ContainsFunc(d.Pins, pinned)
}

// pinAside has a mark be guarded, for sockets of an uplink, and given to nothing
// else.
func (d *Decision) pinAside(m fwmark.Mark, uplink string) {
	if !d.pinned(m) {
		d.Pins = append(slices.Clip(d.Pins), fwmark.Pin{Mark: m, Kept: true})
	}
	if d.aside == nil {
		d.aside = map[fwmark.Mark]string{}
	}
	d.aside[m] = uplink
}

// pinsAside has the marks be guarded that sockets have been set aside with.
func (d *Decision) pinsAside() {
	for _, r := range d.renumbered {
		if !r.To.IsZero() && d.isAside(r.From) {
			d.pinAside(r.From, r.uplink)
		}
	}
}

// takenBy reports whether a mark of an uplink is had by sockets of others.
func (d Decision) takenBy(m fwmark.Mark, uplink string) bool {
	return !m.IsZero() && slices.ContainsFunc(d.renumbered, func(r renumbered) bool { return r.uplink != uplink && r.From.Overlaps(m) })
}

// movable returns the moves that may be made: the others wait until their new
// number is nobody else's, and until both locks have it.
func (d Decision) movable(moves []socket.Move) []socket.Move {
	return slices.DeleteFunc(moves, func(m socket.Move) bool {
		guarded := m.To.IsZero() || slices.ContainsFunc(d.Pins, func(p fwmark.Pin) bool { return p.Mark == m.To && d.carriable(p) })
		return !guarded || d.takenBy(m.To, d.uplinkOf(m)) || d.socketsUnlock(socket.Step{Have: []fwmark.Mark{m.From}, Mark: m.To})
	})
}
