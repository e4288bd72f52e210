package fwmark

import (
	"strings"
	"testing"
)

func TestValidName(t *testing.T) {
	for _, name := range []string{"lo", "a", "enp2s0.5", "wg-ü", "eth0@x", "...", "\xff\xfe", "all0", "All", "default.5"} {
		if err := ValidName(name); err != nil {
			t.Errorf("%q %v", name, err)
		}
	}
	for _, name := range []string{"", ".", "..", "a/b", "/", "a:1", "a b", "a\tb", "a\x00", "a\x7f", "a\xa0", "a\u0085b", strings.Repeat("x", 16), "all", "default"} {
		if ValidName(name) == nil {
			t.Errorf("%q passes", name)
		}
	}
}
