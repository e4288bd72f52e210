package converge

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"pgregory.net/rapid"

	"wg-multihome/fwmark"
)

// What there is: few of each, so that they meet.
var (
	wans       = []string{"wan1", "wan2", "wan3"}
	wireguards = []string{"wg0", "wg1"}
	services   = []string{"a.service", "b.service"}

	// Numbers of marks and their masks: some of them select one packet. A mark
	// has no bit outside its mask.
	numbers = []uint32{0x100, 0x200, 0x300, 0x201}
	masks   = []uint32{fwmark.FullMask, 0xff00, 0xfff, 0xf00}
)

// configuration is what an administrator has written.
type configuration struct {
	uplinks  map[string]options
	priority uint32
	marking  fwmark.Marking
	typo     bool
}

// options are those of one uplink.
type options struct {
	mark     fwmark.Mark
	refused  bool // the mark is written so that it cannot be read
	marking  fwmark.Marking
	devices  []string
	services []string
}

func (c configuration) clone() configuration {
	c.uplinks = maps.Clone(c.uplinks)
	return c
}

// intents returns the configuration as it is read.
func (c configuration) intents() []fwmark.Intent {
	var intents []fwmark.Intent
	for _, name := range slices.Sorted(maps.Keys(c.uplinks)) {
		o := c.uplinks[name]
		in := fwmark.Intent{Uplink: name, Origin: "uplink " + name, Mark: o.readable(), Marking: o.marking, Devices: o.devices, Cgroups: o.services}
		in.Gateways[fwmark.IPv4] = gateways[slices.Index(wans, name)]
		intents = append(intents, in)
	}
	return intents
}

// readable is the mark as it is read; zero where it is refused.
func (o options) readable() fwmark.Mark {
	if o.refused {
		return fwmark.Mark{}
	}
	return o.mark
}

// refuses reports whether some mark is refused.
func (c configuration) refuses() bool {
	for _, o := range c.uplinks {
		if o.refused {
			return true
		}
	}
	return false
}

// mend takes the errors out of what was written.
func (c *configuration) mend() {
	*c = c.clone()
	c.typo = false
	for name, o := range c.uplinks {
		o.refused = false
		c.uplinks[name] = o
	}
}

// lists reports whether options list a device or a service.
func (o options) lists(t thing) bool {
	return t.kind == aDevice && slices.Contains(o.devices, t.name) || t.kind == aService && slices.Contains(o.services, t.name)
}

// listed returns the uplink that a thing is listed for; "": none, or several.
func (c configuration) listed(t thing) (uplink string) {
	for name, o := range c.uplinks {
		switch {
		case !o.lists(t):
		case uplink != "":
			return ""
		default:
			uplink = name
		}
	}
	return uplink
}

var gateways = []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("198.51.100.1"), netip.MustParseAddr("203.0.113.1")}

// pins returns what the configuration itself says of marks, and whether it has
// no error.
func (c configuration) pins() (pins []fwmark.Pin, valid bool) {
	pins, problems := fwmark.Resolve(c.intents(), nil, nil, nil, nil)
	return pins, len(problems) == 0 && !c.typo && !c.refuses()
}

// set changes an uplink's options.
func (c configuration) set(uplink string, change func(*options)) {
	o := c.uplinks[uplink]
	o.devices, o.services = slices.Clone(o.devices), slices.Clone(o.services)
	change(&o)
	if o.mark.IsZero() && len(o.devices)+len(o.services) == 0 {
		delete(c.uplinks, uplink)
		return
	}
	c.uplinks[uplink] = o
}

// changes are what an administrator may do to a configuration.
var configChanges = map[string]func(configuration, *rapid.T){
	"marks swapped":    func(c configuration, t *rapid.T) { c.rotate(shuffled(t)[:2]) },
	"marks rotated":    func(c configuration, t *rapid.T) { c.rotate(shuffled(t)) },
	"mark moved":       configuration.moveMark,
	"mark set":         configuration.setMark,
	"mark removed":     configuration.removeMark,
	"mask changed":     configuration.changeMask,
	"device moved":     func(c configuration, t *rapid.T) { c.moveDevice(anyOf(t, wireguards), anyOf(t, wans)) },
	"device unlisted":  func(c configuration, t *rapid.T) { c.moveDevice(anyOf(t, wireguards), "") },
	"service moved":    func(c configuration, t *rapid.T) { c.moveService(anyOf(t, services), anyOf(t, wans)) },
	"service unlisted": func(c configuration, t *rapid.T) { c.moveService(anyOf(t, services), "") },
	"uplink moved":     configuration.moveUplink,
	"marking set":      configuration.setMarking,
	"all removed":      func(c configuration, t *rapid.T) { clear(c.uplinks) },
}

var configChangeNames = append(slices.Sorted(maps.Keys(configChanges)),
	"marks swapped", "marks rotated", "mark moved", "mask changed", "mark set", "device moved", "service moved")

// change returns a configuration after a change or two. Nearly always it is one
// without an error.
func (c configuration) change(t *rapid.T) (configuration, string) {
	name := anyOf(t, configChangeNames)
	next := c.clone()
	next.mend()
	configChanges[name](next, t)
	if _, valid := next.pins(); !valid && draw(t, 0, 9) != 0 {
		return c, name + " (refused)"
	}
	return next, name
}

// draw draws a number of a range, each as likely as the others: rapid's own
// ranges prefer small ones.
func draw(t *rapid.T, low, high int) int {
	drawn := 0
	for room := high - low; room > 0; room /= 2 {
		drawn *= 2
		if rapid.Bool().Draw(t, "bit") {
			drawn++
		}
	}
	return low + drawn%(high-low+1)
}

func anyOf[T any](t *rapid.T, list []T) T { return list[draw(t, 0, len(list)-1)] }

func shuffled(t *rapid.T) []string {
	list := slices.Clone(wans)
	for i := range list {
		j := draw(t, i, len(list)-1)
		list[i], list[j] = list[j], list[i]
	}
	return list
}

func anyMark(t *rapid.T) fwmark.Mark {
	value, mask := anyOf(t, numbers), uint32(fwmark.FullMask)
	if draw(t, 0, 3) == 0 {
		mask = anyOf(t, masks)
	}
	return fwmark.Mark{Value: value & mask, Mask: mask}
}

// rotate gives each uplink's mark to the next one.
func (c configuration) rotate(names []string) {
	marks := make([]fwmark.Mark, len(names))
	for i, name := range names {
		marks[i] = c.uplinks[name].mark
	}
	for i, name := range names {
		c.set(name, func(o *options) { o.give(marks[(i+1)%len(names)]) })
	}
}

// give gives options a mark. Without one nothing can be pinned.
func (o *options) give(m fwmark.Mark) {
	o.mark = m
	if m.IsZero() {
		o.devices, o.services = nil, nil
	}
}

func (c configuration) setMark(t *rapid.T) {
	m := anyMark(t)
	c.set(anyOf(t, wans), func(o *options) { o.mark = m })
}

func (c configuration) removeMark(t *rapid.T) {
	c.set(anyOf(t, wans), func(o *options) { o.give(fwmark.Mark{}) })
}

// moveMark gives an uplink's mark to another one, which may lose its own.
func (c configuration) moveMark(t *rapid.T) {
	from, to := anyOf(t, wans), anyOf(t, wans)
	m, instead := c.uplinks[from].mark, fwmark.Mark{}
	if from == to || m.IsZero() {
		return
	}
	if draw(t, 0, 1) == 1 {
		instead = anyMark(t)
	}
	c.set(from, func(o *options) { o.give(instead) })
	c.set(to, func(o *options) { o.mark = m })
}

func (c configuration) changeMask(t *rapid.T) {
	mask := anyOf(t, masks)
	c.set(anyOf(t, wans), func(o *options) {
		if m := (fwmark.Mark{Value: o.mark.Value & mask, Mask: mask}); m.Value != 0 {
			o.mark = m
		}
	})
}

// moveDevice lists a device with an uplink, and no other.
func (c configuration) moveDevice(device, to string) {
	c.list(device, to, func(o *options) *[]string { return &o.devices })
}

func (c configuration) moveService(service, to string) {
	c.list(service, to, func(o *options) *[]string { return &o.services })
}

func (c configuration) list(name, to string, list func(*options) *[]string) {
	for _, uplink := range wans {
		c.set(uplink, func(o *options) {
			l := list(o)
			*l = slices.DeleteFunc(*l, func(n string) bool { return n == name })
			if uplink == to && !o.mark.IsZero() {
				*l = append(*l, name)
			}
		})
	}
}

// moveUplink gives all of an uplink's options to another one, as if it had been
// renamed.
func (c configuration) moveUplink(t *rapid.T) {
	from, to := anyOf(t, wans), anyOf(t, wans)
	o, there := c.uplinks[from]
	if from == to || !there {
		return
	}
	delete(c.uplinks, from)
	c.uplinks[to] = o
}

// String shows the configuration in one line.
func (c configuration) String() string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(c.uplinks)) {
		o := c.uplinks[name]
		mark := o.mark.String()
		if o.refused {
			mark += " (refused)"
		}
		parts = append(parts, fmt.Sprintf("%s %s %v by %v", name, mark, slices.Concat(o.devices, o.services), o.marking))
	}
	return fmt.Sprintf("{%s, by %v}", strings.Join(parts, ", "), c.marking)
}
