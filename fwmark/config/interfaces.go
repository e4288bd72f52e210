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

// Options of ours in interfaces(5).
const (
	optionPrefix     = "multihomed-"
	optionMark       = "multihomed-fwmark"
	optionWireGuard  = "multihomed-wireguard"
	optionCgroup     = "multihomed-cgroup"
	optionGateway    = "multihomed-gateway"
	optionRotatePort = "multihomed-rotate-port"
	optionThrough    = "multihomed-through"
	optionSource     = "multihomed-source"
)

// isOption reports whether a key is meant for us. ifupdown keeps `_` and `-`
// apart, but who writes the one for the other means us all the same, and is
// told so.
func isOption(key string) bool {
	return strings.HasPrefix(strings.ReplaceAll(strings.ToLower(key), "_", "-"), optionPrefix)
}

// readInterfaces takes in interfaces(5). Whatever keeps a stanza from being
// read is a problem: its options are not known, and may hold a mark.
func (c *Config) readInterfaces(ctx context.Context, path string, q ifquery) {
	stanzas, errs := readStanzas(path)
	if len(errs) > 0 && len(stanzas) == 0 && errors.Is(errs[0], fs.ErrNotExist) {
		return // a host without ifupdown
	}
	for _, err := range errs {
		c.refuse("%s: %s", path, clip(err.Error()))
	}
	worth := worthAsking(stanzas)
	worth = slices.DeleteFunc(worth, func(s stanza) bool {
		err := checkStanza(s.name)
		if err != nil {
			c.refuse("%s: iface %s %s", s.file, quote(s.name), err)
		}
		return err != nil
	})
	if len(worth) == 0 {
		return
	}
	names := make([]string, len(worth))
	for i, s := range worth {
		names[i] = s.name
	}
	up := c.state(ctx, path, q)
	for i, a := range q.ask(ctx, path, names) {
		origin := worth[i].file + ": iface " + names[i]
		if a.err != nil {
			c.refuse("%s: %s", origin, a.err)
			continue
		}
		c.place(c.stanza(names[i], origin, parseIfquery(a.text)), up)
	}
}

// state asks by which stanza each interface was brought up. Without an answer
// every interface has the stanza of its own name.
func (c *Config) state(ctx context.Context, path string, q ifquery) map[string]string {
	up, err := q.state(ctx)
	if err != nil && !errors.Is(err, errNoIfquery) { // that one is said of each stanza
		c.refuse("%s: %s", path, err)
	}
	for physical, logical := range up {
		if interfaceOf(physical) == "" || logical == "" {
			delete(up, physical)
		}
	}
	return up
}

// checkStanza refuses a name that ifquery does not read as the name of one
// stanza: a pattern, or `eth0=home`. A logical name need not be valid as that of
// an interface.
func checkStanza(name string) error {
	const others = "/="
	switch {
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

// stanza reads the options of one stanza.
func (c *Config) stanza(name, origin string, options []option) fwmark.Intent {
	s := stanzaReader{config: c, intent: fwmark.Intent{Uplink: name, Origin: origin}}
	for _, o := range options {
		s.read(o)
	}
	s.pairGateways()
	if len(s.marks) > 1 {
		s.refuse(s.marks, "%s is said twice: %s and %s", optionMark, s.marks[0], s.marks[1])
		s.intent.Mark = fwmark.Mark{}
	}
	return s.intent
}

type stanzaReader struct {
	config *Config
	intent fwmark.Intent
	marks  []fwmark.Mark // different ones

	addresses, gateways [2][]netip.Addr // by Family: ifupdown's own
}

func (s *stanzaReader) refuse(marks []fwmark.Mark, format string, args ...any) {
	s.config.Problems = append(s.config.Problems, fwmark.Problem{
		Text: s.intent.Origin + ": " + fmt.Sprintf(format, args...), Marks: marks,
	})
}

func (s *stanzaReader) read(o option) {
	switch o.key {
	case optionMark:
		m, err := fwmark.Parse(o.value)
		switch {
		case err != nil:
			s.refuse(nil, "%s: %s", optionMark, clip(err.Error()))
		case !slices.Contains(s.marks, m):
			s.marks = append(s.marks, m)
			s.intent.Mark = m
		}
	case optionWireGuard:
		s.names(o, &s.intent.Devices)
	case optionRotatePort:
		s.names(o, &s.intent.RotatePort)
	case optionCgroup:
		for _, word := range strings.Fields(o.value) {
			path, err := cgroupPath(word)
			if err != nil {
				s.refuse(nil, "%s: %s %s", optionCgroup, quote(word), clip(err.Error()))
				continue
			}
			addOnce(&s.intent.Cgroups, path)
		}
	case optionGateway:
		for _, word := range strings.Fields(o.value) {
			if err := addGateway(&s.intent.Gateways, word); err != nil {
				s.refuse(nil, "%s: %s", optionGateway, err)
			}
		}
	case optionThrough:
		s.prefixes(o, &s.intent.Through, parseThrough)
	case optionSource:
		s.prefixes(o, &s.intent.Sources, parseSource)
	case "address":
		value, _, _ := strings.Cut(o.value, "/")
		s.own(value, &s.addresses)
	case "gateway":
		s.own(o.value, &s.gateways)
	default:
		if isOption(o.key) {
			s.refuse(nil, "option %s is not known", quote(o.key))
		}
	}
}

func (s *stanzaReader) names(o option, to *[]string) {
	for _, word := range strings.Fields(o.value) {
		if err := fwmark.ValidName(word); err != nil {
			s.refuse(nil, "%s: %s %s", o.key, quote(word), err)
			continue
		}
		addOnce(to, word)
	}
}

func (s *stanzaReader) prefixes(o option, to *[]netip.Prefix, parse func(string) (netip.Prefix, error)) {
	for _, word := range strings.Fields(o.value) {
		p, err := parse(word)
		if err != nil {
			s.refuse(nil, "%s: %s", o.key, err)
			continue
		}
		addOnce(to, p)
	}
}

// own reads ifupdown's own address or gateway. "none", or what ifupdown refuses
// itself, tells us nothing.
func (s *stanzaReader) own(word string, to *[2][]netip.Addr) {
	if addr, err := netip.ParseAddr(word); err == nil && addr.Zone() == "" && !addr.IsUnspecified() {
		f := fwmark.FamilyOf(addr)
		to[f] = append(to[f], addr)
	}
}

// pairGateways gives addresses the gateways beside them: of several stanzas of one
// name, which ifquery shows one after the other, each has its own.
func (s *stanzaReader) pairGateways() {
	for _, f := range fwmark.Families {
		addresses, gateways := s.addresses[f], s.gateways[f]
		if len(gateways) == 0 {
			continue
		}
		s.intent.StanzaGateways[f] = gateways[0]
		if len(gateways) != 1 && len(gateways) != len(addresses) {
			continue // which is beside which cannot be told
		}
		for i, addr := range addresses {
			if s.intent.AddressGateways == nil {
				s.intent.AddressGateways = map[netip.Addr]netip.Addr{}
			}
			s.intent.AddressGateways[addr] = gateways[min(i, len(gateways)-1)]
		}
	}
}

func addOnce[T comparable](list *[]T, word T) {
	if !slices.Contains(*list, word) {
		*list = append(*list, word)
	}
}
