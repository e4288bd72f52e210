package sim

import (
	"syscall"

	"wg-multihome/fwmark"
	"wg-multihome/policy"
)

// Walk returns the route that a packet takes, or the error that its sender gets.
func (k *Kernel) Walk(p policy.Packet) (policy.Route, syscall.Errno) {
	v := k.Verdict(p)
	return v.Route, v.Errno
}

// Verdict says by which rule, too.
func (k *Kernel) Verdict(p policy.Packet) policy.Verdict {
	return policy.Routing{Rules: k.rules[fwmark.FamilyOf(p.Dst)], Routes: k.routes, Links: k.Links, Exceptions: k.Exceptions}.Walk(p)
}
