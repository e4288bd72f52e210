package config

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"unicode"

	"wg-multihome/fwmark"
)

// ifupdownFiles are interfaces(5), and what it takes to read it.
type ifupdownFiles struct {
	file  string
	query ifquery
	peers string // pppd's folder of providers
}

// readInterfaces takes in interfaces(5). What ifquery does not answer for is
// taken from the text: a bad line, of anybody's, takes no guards away. It is a
// problem where an option of ours is concerned, as ifupdown cannot read it
// either.
func (c *Config) readInterfaces(ctx context.Context, text *stanzaFile, i ifupdownFiles) {
	if len(text.errs) > 0 && len(text.stanzas) == 0 && errors.Is(text.errs[0], fs.ErrNotExist) {
		return // a host without ifupdown
	}
	for _, err := range text.errs {
		c.refuse("%s: %s", i.file, clip(err.Error()))
	}
	if !slices.ContainsFunc(text.stanzas, stanza.speaks) {
		return // so no process is started
	}
	ctx, cancel := i.query.bounded(ctx)
	defer cancel()
	path, kind, missing := i.query.find(ctx)
	f := newFound(text, kind)
	names := c.worthAsking(f)
	answers, unknown := i.query.askAll(ctx, path, f, i.file, names, missing)
	for _, a := range answers {
		c.take(i, f, a)
	}
	c.refuseUnread(f)
	if unknown != nil && len(f.unread) == 0 && f.hasOption() { // once is enough
		c.refuse("%s: %s", i.file, unknown)
	}
	c.mergeSame()
	c.guardText(f)
}

// worthAsking returns the names to ask ifquery for.
func (c *Config) worthAsking(f *found) []string {
	var names []string
	for _, name := range f.worth() {
		err := f.kind.checkStanza(name)
		switch {
		case err == nil:
			names = append(names, name)
		case f.says(name, stanza.hasOption):
			c.refuse("%s: iface %s %s", f.byName[name][0].file, quote(name), err)
		}
	}
	return names
}

// take takes in what is known of a stanza.
func (c *Config) take(i ifupdownFiles, f *found, a answer) {
	switch {
	case f.template(a.name):
		return
	case f.kind == ifupdownNG && f.up[a.name] != "" && f.up[a.name] != a.name:
		// To ifupdown-ng the name stands for the stanza that is up there.
		a.options = f.options(a.name)
	case a.err != nil:
		a.options = f.options(a.name)
		if f.says(a.name, stanza.hasOption) {
			f.unread[a.err.Error()] = append(f.unread[a.err.Error()], a.name)
		}
	}
	if f.kind == ifupdown2 && strings.ContainsAny(a.name, "[$") {
		return // a range of names, or a template's: by the text alone nobody knows which
	}
	in := c.stanza(a.name, f.origin(i.file, a.name), a.options)
	settleGateways(&in)
	if f.ppp(a.name) {
		device, why := i.pppDevice(a.name, a.options)
		if device != a.name {
			c.Notes = append(c.Notes, fmt.Sprintf("%s: its device is %s: %s", in.Origin, device, why))
		}
		in.Uplink = device
		c.Intents = append(c.Intents, in)
		return
	}
	if !f.spare(a.name, in.Mark) {
		c.place(in, f.up)
	}
}

// settleGateways leaves to an alias's gateway its own addresses alone, and of the
// others those that have another gateway than the stanza's first.
func settleGateways(in *fwmark.Intent) {
	alias := strings.Contains(in.Uplink, ":")
	for _, addr := range slices.Collect(maps.Keys(in.AddressGateways)) {
		switch f := fwmark.FamilyOf(addr); {
		case alias:
			in.StanzaGateways[f] = netip.Addr{}
		case in.AddressGateways[addr] == in.StanzaGateways[f]:
			delete(in.AddressGateways, addr)
		}
	}
	if len(in.AddressGateways) == 0 {
		in.AddressGateways = nil
	}
}

// refuseUnread says for which stanzas ifquery gave no answer, and why.
func (c *Config) refuseUnread(f *found) {
	for _, err := range slices.Sorted(maps.Keys(f.unread)) {
		names := f.unread[err]
		c.refuse("%s: %s; what the text says counts", f.origin("", names[0])+clip(strings.Join(append([]string{""}, names[1:]...), ", iface ")), err)
	}
}

// mergeSame takes options from an intent that another one of its uplink has word
// by word: an alias's stanza that inherits its interface's. They are no
// contradiction.
func (c *Config) mergeSame() {
	for i := range c.Intents {
		in := &c.Intents[i]
		for _, other := range c.Intents[:i] {
			if in.Options() && other.Uplink == in.Uplink && in.SameOptions(other) {
				*in = in.WithoutOptions()
			}
		}
	}
}

// guardText guards the marks that stand in the text and that no stanza brought:
// whatever kept them from being read, their packets are not to leave by another
// uplink.
func (c *Config) guardText(f *found) {
	known := map[fwmark.Mark]bool{}
	for _, in := range c.Intents {
		known[in.Mark] = true
	}
	for _, p := range c.Problems {
		for _, m := range p.Marks {
			known[m] = true
		}
	}
	for _, s := range f.text.stanzas {
		for _, o := range s.options {
			m, err := fwmark.Parse(o.value)
			if f.kind.key(o.key) != optionMark || err != nil || known[m] || s.loopback {
				continue
			}
			known[m] = true
			c.Intents = append(c.Intents, fwmark.Intent{Origin: s.file + ": iface " + s.name, Mark: m})
		}
	}
}

// checkStanza refuses a name that ifquery does not read as the name of one
// stanza: a pattern, or `eth0=home`. A logical name need not be valid as that of
// an interface.
func (d dialect) checkStanza(name string) error {
	const others = "/="
	switch {
	case d == ifupdown2 && strings.Contains(name, "$"):
		return errors.New("is made by a template, so its options are not known: write them into the TOML file")
	case strings.ContainsAny(name, others):
		return fmt.Errorf("cannot be asked for: it holds one of %s", others)
	case strings.ContainsFunc(name, unicode.IsControl):
		return errors.New("cannot be asked for: it holds a control character")
	}
	return nil
}

// interfaceOf returns the interface that a stanza's name stands for. An alias,
// `eth0:1`, is a second address of eth0 under a label. For a name that no
// interface can have it returns "".
func interfaceOf(name string) string {
	name, _, _ = strings.Cut(name, ":")
	if fwmark.ValidName(name) != nil {
		return ""
	}
	return name
}

// place adds a stanza's intent for each interface that was brought up with the
// stanza: by its own name, or by another one (`ifup eth0=home`). An interface that
// was brought up with another stanza gets nothing from the one of its own name;
// the mark of a stanza that no interface was brought up with stays configured,
// without an uplink.
func (c *Config) place(in fwmark.Intent, up map[string]string) {
	name := in.Uplink
	placed := false
	for _, physical := range slices.Sorted(maps.Keys(up)) {
		if up[physical] == name && physical != name {
			in.Uplink = interfaceOf(physical)
			c.Intents = append(c.Intents, in)
			placed = true
		}
	}
	logical, isUp := up[name]
	own := interfaceOf(name)
	switch {
	case own != "" && (isUp && logical == name || !isUp && !placed):
		in.Uplink = own
		c.Intents = append(c.Intents, in)
	case !placed && !in.Mark.IsZero():
		c.Intents = append(c.Intents, fwmark.Intent{Origin: in.Origin, Mark: in.Mark})
	}
	// Any other name without an interface is taken for a logical one. Whoever
	// writes one of these two means all interfaces, and would get none.
	if !placed && (name == "all" || name == "default") && in.Options() {
		c.refuse("%s: %s %s", in.Origin, quote(name), fwmark.ValidName(name))
	}
}
