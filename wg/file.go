package wg

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// File is what a device's configuration file says, as far as it concerns a
// refresh: wg-quick(8)'s format, or plain wg(8)'s, which is a part of it.
type File struct {
	Path  string
	Mark  uint32 // FwMark; 0: off, or not said
	Table string // Table: "" (not said), auto, off, or a table
	Save  bool   // SaveConfig = true: wg-quick writes addresses over names
	Peers map[Key]Endpoint
}

// Endpoint is where the file says that a peer is: a name or an address.
type Endpoint struct {
	Host string     // "": Addr says it, or nobody can tell
	Addr netip.Addr // invalid: Host says it, or nobody can tell
	Port uint16
	Line int // of the file
}

// Bounds on a file's lines, in bytes, and on those of which an error tells.
const (
	fileLine   = 64 << 10
	linesNamed = 5
)

// ParseFile reads a configuration file, as far as it can be read: a line that
// makes no sense loses the peer that it stands in, and nothing else. The error
// tells of such lines. It names path and the lines, and never quotes one: it may
// hold a private key. Keys that are not known are passed over.
//
// As in wg(8) and wg-quick(8), names of sections and keys are taken in upper and
// lower case alike, everything from a `#` on is a comment, and blanks count for
// nothing, also within a value. services returns the port of a service's name,
// as services(5) has it for UDP.
func ParseFile(path string, text []byte, services func(name string) (port uint16, ok bool)) (File, error) {
	p := fileParser{file: File{Path: path, Peers: map[Key]Endpoint{}}, services: services}
	for _, line := range bytes.Split(text, []byte{'\n'}) {
		p.line++
		if err := p.take(line); err != nil {
			p.refuse(p.line, err)
			p.lost = true
		}
	}
	p.endPeer()
	if len(p.refused) == 0 {
		return p.file, nil
	}
	if more := p.bad - len(p.refused); more > 0 {
		p.refused = append(p.refused, fmt.Sprintf("and %d more lines", more))
	}
	return p.file, fmt.Errorf("%s: %s", path, strings.Join(p.refused, "; "))
}

type fileParser struct {
	file     File
	services func(string) (uint16, bool)
	line     int
	section  string   // "": before the first one
	bad      int      // lines that make no sense
	refused  []string // what was wrong with the first of them

	// Of the [Peer] that is being read.
	begun    int  // its line
	lost     bool // a line of it makes no sense
	key      Key
	keyed    bool
	endpoint Endpoint
}

func (p *fileParser) refuse(line int, err error) {
	if p.bad++; len(p.refused) < linesNamed {
		p.refused = append(p.refused, fmt.Sprintf("line %d: %s", line, err))
	}
}

// Sections, without blanks and in lower case.
const (
	sectionInterface = "[interface]"
	sectionPeer      = "[peer]"
)

func (p *fileParser) take(text []byte) error {
	if len(text) > fileLine {
		return fmt.Errorf("is longer than %d bytes", fileLine)
	}
	line, _, _ := strings.Cut(string(text), "#")
	bare := squeeze(line)
	if bare == "" {
		return nil
	}
	if strings.HasPrefix(bare, "[") {
		return p.begin(strings.ToLower(bare))
	}
	key, value, ok := strings.Cut(line, "=")
	switch {
	case p.section != "" && p.section != sectionInterface && p.section != sectionPeer:
		return nil // the section was refused already
	case !ok:
		return errors.New("is neither a section nor KEY = VALUE")
	case p.section == "":
		return errors.New("stands before the first section")
	}
	key = strings.ToLower(squeeze(key))
	if p.section == sectionPeer {
		return p.peer(key, squeeze(value))
	}
	return p.device(key, value)
}

// squeeze takes the blanks out of a line, as wg(8) does before it reads it.
func squeeze(s string) string {
	return strings.Map(func(r rune) rune {
		if r == ' ' || r >= '\t' && r <= '\r' {
			return -1
		}
		return r
	}, s)
}

func (p *fileParser) begin(section string) error {
	p.endPeer()
	p.section, p.begun = section, p.line
	if section != sectionInterface && section != sectionPeer {
		return errors.New("is a section that is neither [Interface] nor [Peer]")
	}
	return nil
}

// endPeer takes in the peer that was read. Of one that is there twice the last
// endpoint counts, as `wg setconf` sets one after the other.
func (p *fileParser) endPeer() {
	switch {
	case p.section != sectionPeer || p.lost:
	case !p.keyed:
		p.refuse(p.begun, errors.New("is a [Peer] without a PublicKey"))
	default:
		if _, known := p.file.Peers[p.key]; !known || p.endpoint.Port != 0 {
			p.file.Peers[p.key] = p.endpoint
		}
	}
	p.key, p.keyed, p.lost, p.endpoint = Key{}, false, false, Endpoint{}
}

func (p *fileParser) device(key, value string) error {
	switch key {
	case "fwmark":
		mark, ok := parseMark(squeeze(value))
		if !ok {
			return fmt.Errorf("FwMark = %s is neither a number of 32 bits nor off", quote(strings.TrimSpace(value)))
		}
		p.file.Mark = mark
	// These two are wg-quick's, which takes off blanks around a value alone.
	case "table":
		value = strings.TrimSpace(value)
		if strings.ContainsFunc(value, unprintable) {
			return fmt.Errorf("the value %s of Table is no table", quote(value))
		}
		p.file.Table = value
	case "saveconfig":
		value = strings.TrimSpace(value)
		p.file.Save = strings.EqualFold(value, "true")
		if !p.file.Save && !strings.EqualFold(value, "false") {
			return fmt.Errorf("SaveConfig = %s is neither true nor false", quote(value))
		}
	}
	return nil
}

// parseMark reads a mark as wg(8) does: to it a leading 0 is not octal.
func parseMark(value string) (uint32, bool) {
	if strings.EqualFold(value, "off") {
		return 0, true
	}
	base := 10
	if digits, hex := strings.CutPrefix(value, "0x"); hex {
		value, base = digits, 16
	}
	mark, err := strconv.ParseUint(value, base, 32)
	return uint32(mark), err == nil
}

func (p *fileParser) peer(key, value string) (err error) {
	switch key {
	case "publickey":
		if p.key, p.keyed = parseKey(value); !p.keyed {
			return errors.New("PublicKey is no key: 44 characters of base64") // not quoted: it may be the private one
		}
	case "endpoint":
		if p.endpoint, err = p.parseEndpoint(value); err != nil {
			return err
		}
		p.endpoint.Line = p.line
	}
	return nil
}

// maxHost is the longest name that DNS can hold, in bytes (RFC 1035, 2.3.4),
// with a dot at its end.
const maxHost = 254

// parseEndpoint reads HOST:PORT or [HOST]:PORT, where HOST is a name or an
// address, and PORT a number or a service's name.
func (p *fileParser) parseEndpoint(s string) (e Endpoint, err error) {
	host, port, ok := cutPort(s)
	if ok {
		e.Port, ok = p.port(port)
	}
	if !ok || host == "" {
		return Endpoint{}, fmt.Errorf("Endpoint = %s is not HOST:PORT", quote(s))
	}
	if e.Addr, err = netip.ParseAddr(host); err == nil {
		e.Addr = e.Addr.Unmap()
		return e, nil
	}
	if len(host) > maxHost || strings.ContainsFunc(host, notOfHost) {
		return Endpoint{}, fmt.Errorf("Endpoint = %s has no name of a host", quote(s))
	}
	if !numeric(host) {
		e.Host = host
	}
	return e, nil
}

func cutPort(s string) (host, port string, ok bool) {
	if inner, bracketed := strings.CutPrefix(s, "["); bracketed {
		host, port, ok = strings.Cut(inner, "]")
		if ok {
			port, ok = strings.CutPrefix(port, ":")
		}
		return host, port, ok
	}
	i := strings.LastIndexByte(s, ':')
	if i < 0 {
		return "", "", false
	}
	return s[:i], s[i+1:], true
}

// port reads a number, or a service's name.
func (p *fileParser) port(s string) (uint16, bool) {
	if s == "" {
		return 0, false
	}
	if n, err := strconv.ParseUint(s, 10, 16); err == nil {
		return uint16(n), n != 0
	}
	if strings.ContainsFunc(s, notOfHost) || !strings.ContainsFunc(s, unicode.IsLetter) {
		return 0, false
	}
	n, ok := p.services(s)
	return n, ok && n != 0
}

// numeric reports whether a host is an address to inet_aton(3), and so to
// wg(8): "1.2.3" is 1.2.0.3. It is no name, and nobody's to look up: no
// top-level domain is a number (RFC 3696, section 2).
func numeric(host string) bool {
	last := host[strings.LastIndexByte(host, '.')+1:]
	_, err := strconv.ParseUint(last, 0, 64)
	return err == nil
}

// notOfHost reports whether a character is none of a host name. Letters beyond
// ASCII are let through, for resolvers that know them.
func notOfHost(r rune) bool {
	return r == utf8.RuneError || unprintable(r) || r < utf8.RuneSelf && !unicode.IsLetter(r) && !unicode.IsDigit(r) && !strings.ContainsRune(".-_", r)
}

// quote shows a value that was refused, unless it may be a key on the wrong
// line: base64 has no colon.
func quote(value string) string {
	if len(value) >= base64.StdEncoding.EncodedLen(len(Key{}))-4 && !strings.Contains(value, ":") {
		return "(too long to show)"
	}
	return fmt.Sprintf("%.120q", value)
}

func unprintable(r rune) bool { return unicode.IsSpace(r) || !unicode.IsPrint(r) }
