package doctor

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"wg-multihome/fwmark"
	"wg-multihome/policy"
)

// What address sources do to a host with several uplinks that no hook can mend.

// networkd deletes each rule and route that it does not know, of all uplinks and both
// families, when it starts and when any of its links is configured anew.
func networkd(f Facts) []Finding {
	if len(f.Networkd) == 0 {
		return nil
	}
	for _, c := range []struct {
		key, what string
		severity  Severity
	}{{"ManageForeignRoutingPolicyRules", "rules", Error}, {"ManageForeignRoutes", "routes", Warning}} { // without routes the guards refuse
		if no(networkdKey(f.Texts, c.key)) {
			continue
		}
		if len(uplinksOf(f, f.Networkd)) == 0 {
			c.severity = Warning // it does so at a reconfigure of any link
		}
		return []Finding{{Severity: c.severity, What: fmt.Sprintf("systemd-networkd deletes our %s at `networkctl reconfigure`", c.what),
			Evidence: fmt.Sprintf("it manages %s, and %s is not \"no\"", strings.Join(f.Networkd, ", "), c.key),
			Mend:     "wg-multihome install, then systemctl restart systemd-networkd"}}
	}
	return nil
}

// manager: NetworkManager tells its dispatcher of each lease from 1.42.6 on, before of
// the first one alone.
func manager(f Facts) []Finding {
	uplinks := uplinksOf(f, f.Manager)
	version := f.Versions[Manager]
	switch {
	case len(uplinks) == 0 || f.Watched || version != "" && !before(version, 1, 42, 6):
		return nil
	case version == "":
		return []Finding{unknownVersion(Manager, "whether it tells of new addresses")}
	}
	return []Finding{{Severity: Error, What: "NetworkManager tells nobody of new addresses and routers of " + strings.Join(uplinks, ", "),
		Evidence: "it is " + version + ", and watch does not run", Mend: "wg-multihome install, which starts watch; without systemd start `wg-multihome watch` yourself"}}
}

// uplinksOf returns those of some interfaces that are uplinks.
func uplinksOf(f Facts, devices []string) (names []string) {
	for _, u := range f.Decision.Uplinks {
		if slices.Contains(devices, u.Name) {
			names = append(names, u.Name)
		}
	}
	return names
}

func managerDhclient(f Facts) []Finding {
	value, file := managerKey(f.Texts, "dhcp")
	if value != "dhclient" || len(uplinksOf(f, f.Manager)) == 0 {
		return nil
	}
	return []Finding{{Severity: Warning, What: "NetworkManager's leases may be lost at renewals", Evidence: file + " has dhcp=dhclient", Mend: "dhcp=internal there, then systemctl restart NetworkManager"}}
}

// unknownVersion is what is said where a program is in use whose version matters.
func unknownVersion(p Program, what string) Finding {
	return Finding{Severity: Unknown, What: fmt.Sprintf("the version of %s is not known, so neither is %s", p, what),
		Evidence: "neither dpkg nor apk lists it", Mend: fmt.Sprintf("%s --version, and wg-multihome doctor --why", p)}
}

// dhcpcd before 10.3.1 deletes the default and the connected route of an interface
// that is renewing when another one of its interfaces renews.
func dhcpcd(f Facts) []Finding {
	version := f.Versions[Dhcpcd]
	switch {
	case len(f.Dhcpcd) < 2 || version != "" && !before(version, 10, 3, 1):
		return nil
	case version == "":
		return []Finding{unknownVersion(Dhcpcd, "whether main loses routes at renewals")}
	}
	return []Finding{{Severity: Warning, What: "main loses an uplink's routes while two of them renew",
		Evidence: fmt.Sprintf("one dhcpcd %s has leases of %s", version, strings.Join(f.Dhcpcd, ", ")), Mend: "a dhcpcd of its own for each uplink (`dhcpcd NAME`, as ifupdown starts it), or dhcpcd 10.3.1"}}
}

// oneDefault finds uplinks without a default in main, where others have one: the
// scripts of udhcpc and pppd leave it alone.
func oneDefault(f Facts) (list []Finding) {
	has := map[string]bool{}
	for _, r := range f.Decision.Facts.Routes {
		if r.Table == policy.TableMain && r.Family == fwmark.IPv4 && r.Dst.Bits() == 0 && r.Type == policy.Unicast {
			has[r.Device] = true
		}
	}
	for _, u := range f.Decision.Uplinks {
		client := single(f, u.Name)
		if client == "" || has[u.Name] || len(has) == 0 || !u.Up || !u.Address[fwmark.IPv4].IsValid() {
			continue
		}
		list = append(list, Finding{Severity: Note, What: fmt.Sprintf("what is not pinned never leaves by %s", u.Name),
			Evidence: fmt.Sprintf("main has no default by it, as %s makes none beside another", client), Mend: fmt.Sprintf("nothing for what is pinned; else ip route add default dev %s metric 2000, with `via` its gateway, in a hook", u.Name)})
	}
	return list
}

// single returns which of the clients that make one default alone an uplink has: ""
// where it has none of them.
func single(f Facts, uplink string) string {
	for _, p := range f.Processes {
		if i := slices.IndexFunc(p.Args, func(a string) bool { return path.Base(a) == "udhcpc" }); i < 0 || i > 1 { // or `busybox udhcpc`
			continue
		}
		for i, a := range p.Args {
			if a == "-i"+uplink || a == "--interface="+uplink || (a == "-i" || a == "--interface") && i+1 < len(p.Args) && p.Args[i+1] == uplink {
				return "udhcpc"
			}
		}
	}
	for _, l := range f.Decision.Facts.Links {
		if l.Name == uplink && (l.Kind == "ppp" || strings.HasPrefix(uplink, "ppp")) {
			return "pppd"
		}
	}
	return ""
}

// ties are defaults of several uplinks by router advertisements or DHCP, at one metric:
// the kernel takes the first for everything, or both in turn.
func ties(f Facts) (list []Finding) {
	type place struct {
		family     fwmark.Family
		metric     uint32
		preference policy.Preference
	}
	at := map[place][]string{}
	var order []place
	for _, r := range f.Decision.Facts.Routes {
		if r.Table != policy.TableMain || r.Dst.Bits() != 0 || r.Protocol != policy.ProtocolRA && r.Protocol != policy.ProtocolDHCP {
			continue
		}
		p := place{r.Family, r.Metric, r.Preference}
		if at[p] == nil {
			order = append(order, p)
		}
		if !slices.Contains(at[p], r.Device) {
			at[p] = append(at[p], r.Device)
		}
	}
	for _, p := range order {
		if devices := at[p]; len(devices) > 1 {
			slices.Sort(devices)
			list = append(list, Finding{Severity: Note, What: fmt.Sprintf("chance decides by which uplink IPv%s leaves that is not pinned", p.family),
				Evidence: fmt.Sprintf("main's defaults by %s all have metric %d", strings.Join(devices, ", "), p.metric),
				Mend:     "another metric for one of them: RouteMetric= of networkd, ipv6.route-metric of NetworkManager, or the routers' preference"})
		}
	}
	return list
}
