package wg

import (
	"bufio"
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

// fileLine bounds a line of a file, in bytes.
const fileLine = 64 << 10

// ParseFile reads a configuration file. path is for errors alone, which name
// it and the line, and never quote a line: it may hold a private key. Keys that
// are not known are passed over; what is known and wrong refuses the file.
//
// As in wg(8) and wg-quick(8), names of sections and keys are taken in upper
// and lower case alike, and everything from a `#` on is a comment.
func ParseFile(path string, text []byte) (File, error) {
	p := fileParser{file: File{Path: path, Peers: map[Key]Endpoint{}}}
	lines := bufio.NewScanner(bytes.NewReader(text))
	lines.Buffer(nil, fileLine)
	for lines.Scan() {
		p.line++
		if err := p.take(lines.Text()); err != nil {
			return File{}, fmt.Errorf("%s: line %d: %w", path, p.line, err)
		}
	}
	if err := lines.Err(); err != nil {
		return File{}, fmt.Errorf("%s: line %d: is longer than %d bytes", path, p.line+1, fileLine)
	}
	if err := p.endPeer(); err != nil {
		return File{}, fmt.Errorf("%s: line %d: %w", path, p.begun, err)
	}
	return p.file, nil
}

type fileParser struct {
	file    File
	line    int
	section string // "": before the first one

	// Of the [Peer] that is being read.
	begun    int // its line
	key      Key
	keyed    bool
	endpoint Endpoint
}

func (p *fileParser) take(line string) error {
	line, _, _ = strings.Cut(line, "#")
	line = strings.TrimSpace(line)
	if line == "" {
		return nil
	}
	if strings.HasPrefix(line, "[") {
		return p.begin(strings.ToLower(line))
	}
	key, value, ok := strings.Cut(line, "=")
	switch {
	case !ok:
		return errors.New("is neither a section nor KEY = VALUE")
	case p.section == "":
		return errors.New("stands before the first section")
	}
	key, value = strings.ToLower(strings.TrimSpace(key)), strings.TrimSpace(value)
	if p.section == "[peer]" {
		return p.peer(key, value)
	}
	return p.device(key, value)
}

func (p *fileParser) begin(section string) error {
	if section != "[interface]" && section != "[peer]" {
		return errors.New("is a section that is neither [Interface] nor [Peer]")
	}
	if err := p.endPeer(); err != nil {
		return fmt.Errorf("ends the section of line %d, which %w", p.begun, err)
	}
	p.section, p.begun = section, p.line
	return nil
}

var errNoKey = errors.New("is a [Peer] without a PublicKey")

// endPeer takes in the peer that was read. Of one that is there twice the last
// endpoint counts, as `wg setconf` sets one after the other.
func (p *fileParser) endPeer() error {
	if p.section != "[peer]" {
		return nil
	}
	if !p.keyed {
		return errNoKey
	}
	if _, known := p.file.Peers[p.key]; !known || p.endpoint.Port != 0 {
		p.file.Peers[p.key] = p.endpoint
	}
	p.key, p.keyed, p.endpoint = Key{}, false, Endpoint{}
	return nil
}

func (p *fileParser) device(key, value string) error {
	switch key {
	case "fwmark":
		var ok bool
		if p.file.Mark, ok = parseMark(value); !ok {
			return fmt.Errorf("FwMark = %s is neither a number of 32 bits nor off", quote(value))
		}
	case "table":
		if value == "" || strings.ContainsFunc(value, unprintable) {
			return fmt.Errorf("the value %s of Table is no table", quote(value))
		}
		p.file.Table = value
	case "saveconfig":
		if value != "true" && value != "false" {
			return fmt.Errorf("SaveConfig = %s is neither true nor false", quote(value))
		}
		p.file.Save = value == "true"
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
		if p.endpoint, err = parseEndpoint(value); err != nil {
			return err
		}
		p.endpoint.Line = p.line
	}
	return nil
}

// maxHost is the longest name that DNS can hold, in bytes (RFC 1035, 2.3.4),
// with a dot at its end.
const maxHost = 254

// parseEndpoint reads HOST:PORT, ADDRESS:PORT or [ADDRESS]:PORT.
func parseEndpoint(s string) (e Endpoint, err error) {
	bad := fmt.Errorf("Endpoint = %s is not HOST:PORT", quote(s))
	i := strings.LastIndexByte(s, ':')
	if i < 0 {
		return Endpoint{}, bad
	}
	host, port := s[:i], s[i+1:]
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 {
		return Endpoint{}, bad
	}
	e.Port = uint16(n)
	inner, bracketed := strings.CutPrefix(host, "[")
	if bracketed {
		if inner, bracketed = strings.CutSuffix(inner, "]"); !bracketed {
			return Endpoint{}, bad
		}
		host = inner
	}
	if e.Addr, err = netip.ParseAddr(host); err == nil {
		e.Addr = e.Addr.Unmap()
		return e, nil
	}
	if bracketed || host == "" || len(host) > maxHost || strings.ContainsFunc(host, notOfHost) {
		return Endpoint{}, bad
	}
	if !numeric(host) {
		e.Host = host
	}
	return e, nil
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
