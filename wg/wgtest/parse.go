// Package wgtest reads the text of changes back. Tests write in that text what
// should follow; the program only ever writes it.
package wgtest

import (
	"encoding/base64"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"wg-multihome/wg"
)

// ParseChange reads what String writes, and nothing else. Of a peer's key it
// knows what the text shows.
func ParseChange(s string) (wg.Change, error) {
	words := strings.Split(s, " ")
	if len(words) < 5 || words[2] == "" {
		return wg.Change{}, errChange(s)
	}
	c := wg.Change{Device: words[2]}
	ok := parse(&c, words[3:])
	if !ok || c.String() != s {
		return wg.Change{}, errChange(s)
	}
	return c, nil
}

func errChange(s string) error {
	return fmt.Errorf("step %.120q is not of the form `= wg DEVICE fwmark MARK`, `listen-port 0`, `peer KEY persistent-keepalive 0 SECONDS` or `peer KEY endpoint ADDRESS:PORT`", s)
}

// parse reads what follows the device.
func parse(c *wg.Change, words []string) (ok bool) {
	switch {
	case words[0] == "fwmark" && words[1] == "off":
		return true
	case words[0] == "fwmark":
		mark, err := strconv.ParseUint(words[1], 0, 32)
		c.Mark = uint32(mark)
		return err == nil
	case words[0] == "listen-port":
		c.Kind = wg.RotatePort
		return true
	case words[0] != "peer" || len(words) < 4:
		return false
	}
	var err error
	if c.Peer, ok = parseKey(words[1]); !ok {
		return false
	}
	if words[2] == "endpoint" {
		c.Kind = wg.SetEndpoint
		c.Endpoint, err = netip.ParseAddrPort(words[3])
		return err == nil
	}
	c.Kind = wg.Kick
	seconds, err := strconv.ParseUint(words[len(words)-1], 10, 16)
	c.Keepalive = uint16(seconds)
	return err == nil && seconds != 0
}

// parseKey reads what of a key is shown; the rest of it is zero.
func parseKey(s string) (k wg.Key, ok bool) {
	b, err := base64.StdEncoding.Strict().DecodeString(s)
	if err != nil || len(b) > len(k) {
		return wg.Key{}, false
	}
	copy(k[:], b)
	return k, k.String() == s
}
