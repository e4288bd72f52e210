package clients

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"wg-multihome/fwmark"
	"wg-multihome/policy"
)

// Facts are what findings are made of.
type Facts struct {
	Clients []Client
	Links   []Link
	Routes  []policy.Route // main's
	Watch   bool           // `watch` runs

	// ManagerVersion is NetworkManager's where it runs, as 1.42.4, else "".
	ManagerVersion string
	ManagerDHCP    string // its `dhcp=`; "": its own client

	// Spares says that networkd is told to leave rules and routes alone that it does
	// not know: ManageForeignRoutingPolicyRules=no and ManageForeignRoutes=no.
	Spares bool
}

// Client is a process of a DHCP client.
type Client struct {
	Name    string // dhclient, dhcpcd or udhcpc
	Version string // as 9.4.1; "": not known
	Uplinks []string
}

// Link is an uplink as its address source sees it.
type Link struct {
	Name       string
	Forwarding bool // net.ipv6.conf.NAME.forwarding
	AcceptRA   int  // net.ipv6.conf.NAME.accept_ra, 0 to 2
	Networkd   bool // networkd manages it
}

// Finding is what is wrong, and what mends it.
type Finding struct {
	Error bool // pinning, or an uplink's source rules, are lost by it; else it is a hint
	Text  string
	Mend  string // what to do; "": nothing is known
}

// Check returns the findings, errors first.
func Check(f Facts) []Finding {
	list := slices.Concat(advertisements(f), networkd(f), manager(f), dhcpcd(f), udhcpc(f), ties(f))
	slices.SortStableFunc(list, func(a, b Finding) int {
		switch {
		case a.Error == b.Error:
			return 0
		case a.Error:
			return -1
		}
		return 1
	})
	return list
}

// advertisements: with forwarding on, and accept_ra at 1, the kernel deletes all
// defaults of router advertisements, and takes no new ones.
func advertisements(f Facts) []Finding {
	var list []Finding
	for _, l := range f.Links {
		if l.Forwarding && l.AcceptRA == 1 {
			list = append(list, Finding{Error: true,
				Text: fmt.Sprintf("%s forwards IPv6 and has accept_ra=1: the kernel takes no default from router advertisements there", l.Name),
				Mend: fmt.Sprintf("sysctl net.ipv6.conf.%s.accept_ra=2", strings.ReplaceAll(l.Name, ".", "/"))})
		}
	}
	return list
}

// networkd deletes every rule that it does not know, of all uplinks and both
// families, when it starts and when any of its links is configured anew.
func networkd(f Facts) []Finding {
	if f.Spares {
		return nil
	}
	var managed []string
	for _, l := range f.Links {
		if l.Networkd {
			managed = append(managed, l.Name)
		}
	}
	if len(managed) == 0 {
		return nil
	}
	return []Finding{{Error: true,
		Text: fmt.Sprintf("networkd manages %s, and deletes the rules of all uplinks whenever it configures one of them", strings.Join(managed, ", ")),
		Mend: "wg-multihome install && systemctl restart systemd-networkd"}}
}

// manager: NetworkManager tells its dispatcher of every lease from 1.42.6 on, of the
// first alone before. dhclient under it has no hooks of /etc/dhcp, and renews by
// main's default.
func manager(f Facts) []Finding {
	var list []Finding
	if f.ManagerVersion != "" && before(f.ManagerVersion, 1, 42, 6) && !f.Watch {
		list = append(list, Finding{Error: true,
			Text: "NetworkManager " + f.ManagerVersion + " tells nobody of a new address or router, and watch does not run",
			Mend: "wg-multihome install"})
	}
	if f.ManagerVersion != "" && f.ManagerDHCP == "dhclient" {
		list = append(list, Finding{
			Text: "NetworkManager has dhclient for its DHCP client, whose hooks in /etc/dhcp do not run then",
			Mend: "take dhcp=dhclient out of NetworkManager.conf"})
	}
	return list
}

// dhcpcd before 10.3.1 deletes the default and the connected route of an interface
// that is renewing when another one of its interfaces renews.
func dhcpcd(f Facts) []Finding {
	var list []Finding
	for _, c := range f.Clients {
		if c.Name == "dhcpcd" && len(c.Uplinks) > 1 && c.Version != "" && before(c.Version, 10, 3, 1) {
			list = append(list, Finding{
				Text: fmt.Sprintf("one dhcpcd %s serves %s: main loses an uplink's routes while two of them renew", c.Version, strings.Join(c.Uplinks, ", ")),
				Mend: "a dhcpcd of its own for each uplink, or 10.3.1"})
		}
	}
	return list
}

// udhcpc's script adds a default without a metric, so the second one is refused.
func udhcpc(f Facts) []Finding {
	var uplinks []string
	for _, c := range f.Clients {
		if c.Name == "udhcpc" {
			uplinks = append(uplinks, c.Uplinks...)
		}
	}
	if len(uplinks) < 2 {
		return nil
	}
	return []Finding{{Text: fmt.Sprintf("udhcpc serves %s: main has a default by one of them alone, and what is not pinned has no second way", strings.Join(uplinks, ", "))}}
}

// Protocols of routes, RTPROT_ of linux/rtnetlink.h.
const (
	protocolRA   = 9
	protocolDHCP = 16
)

// ties are defaults of several uplinks, by router advertisements or networkd, at
// one metric: the kernel takes the first for everything, or both in turn.
func ties(f Facts) []Finding {
	type place struct {
		family     fwmark.Family
		metric     uint32
		preference policy.Preference
	}
	at := map[place][]string{}
	for _, r := range f.Routes {
		if r.Table == policy.TableMain && r.Dst.Bits() == 0 && (r.Protocol == protocolRA || r.Protocol == protocolDHCP) {
			p := place{r.Family, r.Metric, r.Preference}
			if !slices.Contains(at[p], r.Device) {
				at[p] = append(at[p], r.Device)
			}
		}
	}
	var list []Finding
	for p, devices := range at {
		if len(devices) > 1 {
			slices.Sort(devices)
			list = append(list, Finding{
				Text: fmt.Sprintf("main's IPv%s defaults by %s all have metric %d: which one holds for what is not pinned is nobody's choice", p.family, strings.Join(devices, ", "), p.metric),
				Mend: "give the uplinks route metrics of their own (RouteMetric= of networkd, ipv6.route-metric of NetworkManager, router preferences)"})
		}
	}
	slices.SortFunc(list, func(a, b Finding) int { return cmp.Compare(a.Text, b.Text) })
	return list
}

// before reports whether a version is older. What is no number in it, and what
// is not there, is 0.
func before(version string, than ...int) bool {
	have := make([]int, len(than))
	for i, part := range strings.SplitN(version, ".", len(than)) {
		have[i], _ = strconv.Atoi(part)
	}
	return slices.Compare(have, than) < 0
}
