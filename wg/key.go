package wg

import "encoding/base64"

// Key is a peer's public key. It identifies the peer; no other key is ever
// kept.
type Key [32]byte

// shown is how many bytes of a key its text has: eight characters of base64.
const shown = 6

// String returns the key's first eight characters in base64, as wg(8) writes
// it whole: enough to tell peers apart, and all that is ever shown.
func (k Key) String() string { return base64.StdEncoding.EncodeToString(k[:shown]) }

// parseKey reads a key as wg(8) writes it, 44 characters of base64.
func parseKey(s string) (k Key, ok bool) {
	b, err := base64.StdEncoding.Strict().DecodeString(s)
	if err != nil || len(b) != len(k) {
		return Key{}, false
	}
	return Key(b), true
}
