package wg

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"wg-multihome/fwmark"
)

// networks are the families as package net calls them.
var networks = [2]string{fwmark.IPv4: "ip4", fwmark.IPv6: "ip6"}

// LookUp looks names up side by side, each in the families that the uplink
// has. Answers come as they are there, and all of them by the time ctx ends;
// then the channel is closed.
func LookUp(ctx context.Context, names []string, families [2]bool) <-chan Answer {
	answers := make(chan Answer, len(names))
	var all sync.WaitGroup
	for _, name := range names {
		all.Add(1)
		go func() {
			defer all.Done()
			answers <- lookUp(ctx, name, families)
		}()
	}
	go func() {
		all.Wait()
		close(answers)
	}()
	return answers
}

// lookUp asks for each family by itself. Asked for both at once, Go's resolver
// gives what one of them brought for the whole answer, or nothing where the
// other one takes too long.
func lookUp(ctx context.Context, name string, families [2]bool) Answer {
	a := Answer{Name: name}
	var found [2][]netip.Addr
	var both sync.WaitGroup
	for _, f := range fwmark.Families {
		if !families[f] {
			continue
		}
		both.Add(1)
		go func() {
			defer both.Done()
			found[f], a.Errs[f] = lookUpIn(ctx, networks[f], name)
		}()
	}
	both.Wait()
	a.Addrs = slices.Concat(found[fwmark.IPv6], found[fwmark.IPv4])
	return a
}

// lookUpIn returns no error for a name that has no address there.
func lookUpIn(ctx context.Context, network, name string) ([]netip.Addr, error) {
	// Go's own resolver: the C library's cannot be ended.
	resolver := net.Resolver{PreferGo: true, Dial: dial}
	addrs, err := resolver.LookupNetIP(ctx, network, whole(name))
	var dns *net.DNSError
	var other *net.AddrError // /etc/hosts has the name in the other family alone
	if errors.As(err, &dns) && dns.IsNotFound || errors.As(err, &other) {
		return nil, nil
	}
	for i := range addrs {
		addrs[i] = addrs[i].Unmap()
	}
	return addrs, err
}

// whole keeps the search domains of resolv.conf(5) from a name that has a dot:
// where it does not answer in a family, a wildcard in one of them would.
func whole(name string) string {
	if _, err := netip.ParseAddr(name); err == nil || !strings.Contains(name, ".") || strings.HasSuffix(name, ".") {
		return name
	}
	return name + "."
}

// serverTime bounds how long one name server is waited for before the next one
// is asked. The usual 5 s of resolv.conf(5) are all that there is: the server of
// an uplink that is gone, standing first, would keep others from being asked.
const serverTime = time.Second

// hasty is a socket whose deadlines are near.
type hasty struct{ *net.UDPConn }

func (c hasty) SetDeadline(t time.Time) error {
	if near := time.Now().Add(serverTime); t.After(near) {
		t = near
	}
	return c.UDPConn.SetDeadline(t)
}

func dial(ctx context.Context, network, server string) (net.Conn, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, network, server)
	if udp, is := c.(*net.UDPConn); is {
		return hasty{udp}, err
	}
	return c, err
}
