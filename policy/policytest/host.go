package policytest

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"

	"wg-multihome/fwmark"
	"wg-multihome/policy"
)

// Host is a host as people have them: uplinks, some of them in one subnet, LANs,
// tunnels, and what others have put into main and in front of it. A kernel may
// refuse some of it.
type Host struct {
	Links   []policy.Link
	Addrs   []policy.Address
	Rules   []policy.Rule // of others, beside those of boot
	Routes  []policy.Route
	Intents []fwmark.Intent
	VRF     bool // the look-up of the local table is moved behind ours

	// Destinations are some of each kind that there is.
	Destinations []netip.Addr
}

var (
	uplinkNets = [2][]string{
		{"192.168.1.0/24", "192.168.1.0/24", "198.51.100.0/24", "198.51.100.64/26", "192.0.2.0/24", "10.64.0.0/16", "100.64.8.0/22", "8.0.0.0/7", "64.0.0.0/2"},
		{"2001:db8:1::/64", "2001:db8:1::/64", "2001:db8:2::/64", "fd00:1::/64", "2600::/12"},
	}
	lanNets = [2][]string{
		{"192.168.50.0/24", "10.0.0.0/8", "203.0.113.0/24", "198.51.100.128/25", "192.168.1.128/25"},
		{"2001:db8:50::/64", "fd00:50::/64", "2600:1::/64"},
	}
	// What else main may have, through whatever.
	longer = [2][]string{
		{
			"0.0.0.0/1", "128.0.0.0/1", "0.0.0.0/2", "64.0.0.0/2", "128.0.0.0/2", "192.0.0.0/2", "9.0.0.0/8", "9.9.9.9/32", "203.0.113.64/26",
			"10.64.7.0/24", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "192.168.50.7/32", "100.64.0.0/10", "198.51.100.0/24",
		},
		{"2000::/3", "::/1", "2600::/12", "2a00::/12", "2a00::9/128", "fd00::/8", "fd00:50::7/128", "2001:db8:50::7/128", "2001:db8::/32"},
	}
	pieces  = [2][]string{{"0.0.0.0/2", "64.0.0.0/2", "128.0.0.0/2", "192.0.0.0/2"}, {"2000::/3"}}
	foreign = [2][]string{
		{"0.0.0.0/0", "100.64.0.7/32", "10.9.0.0/16", "203.0.113.0/24", "0.0.0.0/1", "128.0.0.0/1"},
		{"::/0", "fd00:9::/32", "2001:db8:9::/48"},
	}
	destinations = [2][]string{
		{
			"9.9.9.9", "9.1.1.1", "70.1.1.1", "130.0.0.1", "203.0.113.5", "203.0.113.70", "198.51.100.7", "198.51.100.77", "198.51.100.177", "192.0.2.7",
			"192.168.1.1", "192.168.1.7", "192.168.1.177", "192.168.50.7", "192.168.50.8", "192.168.77.7", "10.64.7.7", "10.64.8.8", "10.9.0.7", "10.200.0.1", "100.64.8.8", "100.64.0.7", "172.16.9.9",
		},
		{"2a00::9", "2a00::8", "2600:1::9", "2601::1", "2001:db8:1::7", "2001:db8:2::7", "2001:db8:50::7", "2001:db8:50::8", "2001:db8:9::1", "fd00:1::7", "fd00:50::7", "fd00:50::8", "fd00:9::7", "fdff::1"},
	}
)

// RandomHost makes a host.
func RandomHost(r *rand.Rand) Host {
	h := Host{VRF: r.IntN(6) == 0}
	b := hostBuilder{Host: &h, r: r}
	up := 1 + r.IntN(4)
	for i := range up {
		b.uplink(fmt.Sprintf("up%d", i), i)
	}
	for i := range r.IntN(3) {
		b.lan(fmt.Sprintf("lan%d", i), i)
	}
	for _, name := range []string{"tun0", "wg0"} {
		h.Links = append(h.Links, policy.Link{Name: name, Up: true, WireGuard: name == "wg0"})
	}
	for _, f := range fwmark.Families {
		for range r.IntN(8) {
			b.route(f, policy.TableMain, b.any(longer[f]), b.device())
		}
		if r.IntN(4) == 0 { // four or two pieces that are a default
			device := b.device()
			for _, p := range pieces[f] {
				b.route(f, policy.TableMain, p, device)
			}
		}
		b.foreignRules(f)
		for _, d := range destinations[f] {
			h.Destinations = append(h.Destinations, netip.MustParseAddr(d))
		}
	}
	return h
}

type hostBuilder struct {
	*Host
	r *rand.Rand
}

func (b hostBuilder) any(list []string) string { return list[b.r.IntN(len(list))] }

func (b hostBuilder) device() string { return b.Links[b.r.IntN(len(b.Links))].Name }

// uplink has a mark, addresses, most of the time main's default, a gateway of its
// own, and destinations that all reach through it.
func (b hostBuilder) uplink(name string, i int) {
	b.Links = append(b.Links, policy.Link{Name: name, Up: true})
	in := fwmark.Intent{Uplink: name, Origin: "test", Mark: fwmark.Mark{Value: uint32(0x1001 + i), Mask: fwmark.FullMask}}
	for _, f := range fwmark.Families {
		if b.r.IntN(6) == 0 {
			continue
		}
		net := netip.MustParsePrefix(b.any(uplinkNets[f]))
		b.address(name, net, 20+i)
		in.Gateways[f] = b.gateway(f, net)
		if b.r.IntN(2) == 0 {
			b.Routes = append(b.Routes, policy.Route{
				Family: f, Table: policy.TableMain, Dst: netip.PrefixFrom(f.Unspecified(), 0), Type: policy.Unicast, Gateway: in.Gateways[f],
				Device: name, Metric: uint32(1000 + i), Protocol: 3, OnLink: f == fwmark.IPv4,
			})
		}
	}
	if b.r.IntN(5) == 0 {
		in.Through = []netip.Prefix{netip.MustParsePrefix(b.any([]string{"203.0.113.0/24", "10.9.0.0/16", "9.9.9.9/32", "2a00::9/128"}))}
	}
	b.Intents = append(b.Intents, in)
}

func (b hostBuilder) gateway(f fwmark.Family, net netip.Prefix) netip.Addr {
	if f == fwmark.IPv6 {
		return netip.MustParseAddr("fe80::1")
	}
	return net.Addr().Next()
}

func (b hostBuilder) lan(name string, i int) {
	b.Links = append(b.Links, policy.Link{Name: name, Up: true})
	for _, f := range fwmark.Families {
		b.address(name, netip.MustParsePrefix(b.any(lanNets[f])), 40+i)
	}
}

// address adds one with the route that the kernel makes for it.
func (b hostBuilder) address(device string, net netip.Prefix, host int) {
	bytes := net.Addr().AsSlice()
	bytes[len(bytes)-1] += byte(host)
	a, _ := netip.AddrFromSlice(bytes)
	b.Addrs = append(b.Addrs, policy.Address{Device: device, Prefix: netip.PrefixFrom(a, net.Bits()), Global: true})
	r := policy.Route{Family: fwmark.FamilyOf(a), Table: policy.TableMain, Dst: net, Type: policy.Unicast, Device: device, Src: a, Protocol: 3}
	if r.Family == fwmark.IPv6 {
		r.Src, r.Metric = netip.Addr{}, uint32(256+len(b.Routes))
	}
	b.Routes = append(b.Routes, r)
}

// route adds one through a device, or one that leads nowhere.
func (b hostBuilder) route(f fwmark.Family, table uint32, dst, device string) {
	r := policy.Route{Family: f, Table: table, Dst: netip.MustParsePrefix(dst), Type: policy.Unicast, Device: device, Metric: uint32(10 + len(b.Routes)), Protocol: 3}
	switch b.r.IntN(12) {
	case 0:
		r.Type = []policy.RouteType{policy.UnreachableRoute, policy.BlackholeRoute, policy.ProhibitRoute, policy.ThrowRoute}[b.r.IntN(4)]
		if r.Device = ""; f == fwmark.IPv6 {
			r.Device = "lo"
		}
	case 1, 2, 3:
		r.Gateway = netip.MustParseAddr("fe80::77")
		if f == fwmark.IPv4 {
			r.Gateway, r.OnLink = netip.MustParseAddr("169.254.77.77"), true
		}
	}
	b.Routes = append(b.Routes, r)
}

// foreignRules are a full tunnel's, a VPN's whose peers are in a table of their own,
// and split ones.
func (b hostBuilder) foreignRules(f fwmark.Family) {
	rule := func(priority uint32, table uint32) policy.Rule {
		return policy.Rule{Family: f, Priority: priority, Action: policy.Lookup, Table: table, Protocol: 3}
	}
	near := 32740 + uint32(b.r.IntN(26))
	if b.r.IntN(4) == 0 {
		r := rule(near, 51820)
		r.Mark, r.Invert = fwmark.Mark{Value: 0xca6c, Mask: fwmark.FullMask}, true
		b.Rules = append(b.Rules, r)
		b.route(f, 51820, foreign[f][0], "wg0")
	}
	if b.r.IntN(4) == 0 {
		b.Rules = append(b.Rules, rule(5270, 52))
		for range 1 + b.r.IntN(3) {
			b.route(f, 52, b.any(foreign[f]), b.device())
		}
	}
	if b.r.IntN(4) == 0 {
		r := rule(1000+uint32(b.r.IntN(31000)), 700)
		r.To = netip.MustParsePrefix(b.any(foreign[f][1:3]))
		b.Rules = append(b.Rules, r)
		b.route(f, 700, b.any(foreign[f]), b.device())
	}
	if b.r.IntN(6) == 0 && len(b.Addrs) > 0 {
		a := b.Addrs[b.r.IntN(len(b.Addrs))].Prefix
		r := rule(1000+uint32(b.r.IntN(31000)), 701)
		if fwmark.FamilyOf(a.Addr()) == f {
			r.From = a.Masked()
			b.Rules = append(b.Rules, r)
			b.route(f, 701, b.any(foreign[f]), b.device())
		}
	}
	slices.SortStableFunc(b.Rules, func(a, c policy.Rule) int { return int(a.Priority) - int(c.Priority) })
}
