package fwmark

import (
	"errors"
	"fmt"
	"unicode"
	"unicode/utf8"
)

// maxName is the kernel's IFNAMSIZ less the closing NUL, in bytes.
const maxName = 15

// ValidName refuses what cannot be the name of a network interface: what the
// kernel's dev_valid_name() refuses, control characters, and the two names that
// IPv4 refuses (sysctl_dev_name_is_allowed() in devinet.c): settings written for
// them would be those of other interfaces. A name that passes is safe as the
// stem of a file name and as one word in a line.
func ValidName(name string) error {
	switch {
	case name == "":
		return errors.New("is empty, and no interface name")
	case len(name) > maxName:
		return fmt.Errorf("is no interface name: longer than %d bytes", maxName)
	case name == "." || name == "..":
		return errors.New("is no interface name")
	case name == "all":
		return errors.New("is no interface name: to the kernel it is all interfaces (net.ipv4.conf.all)")
	case name == "default":
		return errors.New("is no interface name: to the kernel it is interfaces to come (net.ipv4.conf.default)")
	}
	for i := range len(name) {
		switch c := name[i]; {
		case c == '/' || c == ':':
			return fmt.Errorf("is no interface name: it holds %q", c)
		// The kernel's isspace() goes by Latin-1, so 0xa0 is a blank to it.
		case c == ' ' || c == 0xa0 || c >= '\t' && c <= '\r':
			return errors.New("is no interface name: it holds a blank")
		case c < ' ' || c == 0x7f:
			return errors.New("is no interface name: it holds a control character")
		}
	}
	for s := name; s != ""; {
		r, size := utf8.DecodeRuneInString(s)
		if unicode.IsControl(r) {
			return errors.New("is no interface name: it holds a control character")
		}
		s = s[size:]
	}
	return nil
}
