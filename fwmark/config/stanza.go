package config

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"wg-multihome/fwmark"
	"wg-multihome/fwmark/spelling"
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
	optionMarking    = "multihomed-marking"
)

// options are all of them.
var options = []string{optionMark, optionWireGuard, optionCgroup, optionGateway, optionRotatePort, optionThrough, optionSource, optionMarking}

// isOption reports whether a key is meant for us. ifupdown keeps `_` and `-`
// apart, and passes over what it does not know, but who writes the one for the other,
// or mistypes an option, means us all the same, and is told so.
func isOption(key string) bool {
	return strings.HasPrefix(strings.ReplaceAll(strings.ToLower(key), "_", "-"), optionPrefix) ||
		slices.ContainsFunc(options, func(o string) bool { return spelling.Near(key, o) })
}

// ownKeys are ifupdown's own options that tell us something.
var ownKeys = []string{"address", "gateway", "provider", "ppp-provider", "unit"}

// stanza reads the options of one stanza.
func (c *Config) stanza(name, origin string, options []option) fwmark.Intent {
	s := stanzaReader{config: c, intent: fwmark.Intent{Uplink: name, Origin: origin}}
	for _, o := range options {
		s.read(o)
	}
	s.endStanza()
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
	case "":
		s.endStanza()
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
			s.config.noteCgroup(s.intent.Origin+": "+optionCgroup, word, path)
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
	case optionMarking:
		s.marking(o.value)
	case "address":
		value, _, _ := strings.Cut(o.value, "/")
		s.own(value, &s.addresses)
	case "gateway":
		s.own(o.value, &s.gateways)
	default:
		if isOption(o.key) {
			s.refuse(nil, "option %s is not known%s", quote(o.key), spelling.Instead(o.key, options))
		}
	}
}

// marking reads how services are marked, said once or several times alike.
func (s *stanzaReader) marking(value string) {
	m, err := fwmark.ParseMarking(value)
	switch {
	case err != nil:
		s.refuse(nil, "%s: %s %s", optionMarking, quote(value), err)
	case s.intent.Marking != fwmark.Unsaid && s.intent.Marking != m:
		s.refuse(nil, "%s is said twice: socket and packet", optionMarking)
		m = fwmark.Undecided
	}
	s.intent.Marking = m
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

// endStanza gives addresses the gateways beside them: of several stanzas of one
// name, which ifupdown's ifquery shows one after the other, each has its own.
func (s *stanzaReader) endStanza() {
	defer func() { s.addresses, s.gateways = [2][]netip.Addr{}, [2][]netip.Addr{} }()
	for _, f := range fwmark.Families {
		addresses, gateways := s.addresses[f], s.gateways[f]
		if len(gateways) == 0 {
			continue
		}
		if !s.intent.StanzaGateways[f].IsValid() {
			s.intent.StanzaGateways[f] = gateways[0]
		}
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
