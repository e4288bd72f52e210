package wg

import (
	"context"
	"net"
	"sync"

	"wg-multihome/fwmark"
)

// LookUp looks names up side by side, each in the families that the uplink
// has, and answers for all of them by the time ctx ends.
func LookUp(ctx context.Context, names []string, ways [2]bool) map[string]Answer {
	network := "ip"
	switch {
	case !ways[fwmark.IPv6]:
		network = "ip4"
	case !ways[fwmark.IPv4]:
		network = "ip6"
	}
	// Go's own resolver: the C library's cannot be ended.
	resolver := net.Resolver{PreferGo: true}
	answers := make([]Answer, len(names))
	var all sync.WaitGroup
	for i, name := range names {
		all.Add(1)
		go func() {
			defer all.Done()
			addrs, err := resolver.LookupNetIP(ctx, network, name)
			for _, a := range addrs {
				answers[i].Addrs = append(answers[i].Addrs, a.Unmap())
			}
			answers[i].Err = err
		}()
	}
	all.Wait()
	byName := make(map[string]Answer, len(names))
	for i, name := range names {
		byName[name] = answers[i]
	}
	return byName
}
