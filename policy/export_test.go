package policy

import "net/netip"

// LeadsEverywhere reports whether routes to these prefixes, of one family, lead
// everywhere.
func LeadsEverywhere(prefixes []netip.Prefix) bool {
	var c coverage
	for _, p := range prefixes {
		c.add(p)
	}
	return c.everywhere()
}
