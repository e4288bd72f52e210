package doctor

import (
	"fmt"
	"net/netip"
	"path"
	"slices"
	"sort"
	"strings"

	"wg-multihome/cmd/internal/systemd"
	"wg-multihome/fwmark"
	"wg-multihome/nft"
	"wg-multihome/policy"
)

// setting returns the larger of an interface's setting and that of all, which is
// what the kernel goes by.
func setting(conf map[string]map[string]int, device, name string) int {
	return max(conf["all"][name], conf[device][name])
}

// packetServices reports whether packets of services are marked, of an uplink; "":
// of any.
func packetServices(f Facts, uplink string) bool {
	return slices.ContainsFunc(f.Decision.Locks.Pins, func(p fwmark.Pin) bool {
		return len(p.Cgroups) > 0 && (uplink == "" || p.Uplink == uplink)
	})
}

func rpFilter(f Facts) (list []Finding) {
	for _, u := range f.Decision.Uplinks {
		if packetServices(f, u.Name) && setting(f.Conf4, u.Name, "rp_filter") == 1 && setting(f.Conf4, u.Name, "src_valid_mark") == 0 {
			list = append(list, Finding{Severity: Error, What: fmt.Sprintf("answers to services pinned to %s are dropped", u.Name),
				Evidence: fmt.Sprintf("rp_filter of %s is strict, and somebody has set its src_valid_mark back to 0", u.Name), Mend: "wg-multihome sync"})
		}
	}
	return list
}

func noDefault(f Facts) (list []Finding) {
	if !packetServices(f, "") {
		return nil
	}
	for _, family := range fwmark.Families {
		has := slices.ContainsFunc(f.Decision.Facts.Routes, func(r policy.Route) bool {
			return r.Table == policy.TableMain && r.Family == family && r.Dst.Bits() == 0 && r.Type == policy.Unicast
		})
		routed := slices.ContainsFunc(f.Decision.Uplinks, func(u fwmark.Uplink) bool { return u.Routed(family) })
		if !has && routed {
			list = append(list, Finding{Severity: Warning, What: fmt.Sprintf("services cannot connect by IPv%s", family),
				Evidence: "their packets are marked, and main has no default to choose a source by", Mend: `marking = "socket" in the configuration, or a default route in main`})
		}
	}
	return list
}

func acceptRA(f Facts) (list []Finding) {
	for _, u := range f.Decision.Uplinks {
		c := f.Conf6[u.Name]
		if c["forwarding"] == 1 && c["accept_ra"] == 1 && c["disable_ipv6"] == 0 {
			list = append(list, Finding{Severity: Warning, What: fmt.Sprintf("uplink %s takes no router advertisements", u.Name),
				Evidence: fmt.Sprintf("net.ipv6.conf.%s has forwarding=1 and accept_ra=1", u.Name), Mend: fmt.Sprintf("sysctl -w net.ipv6.conf.%s.accept_ra=2, and in /etc/sysctl.d", strings.ReplaceAll(u.Name, ".", "/"))})
		}
	}
	return list
}

func foreignMarks(f Facts) (list []Finding) {
	for _, r := range f.Decision.Facts.Rules {
		if r.Ours() || r.Invert || r.Mark.Mask == 0 || r.Mark.Value == 0 || slices.Contains(f.Decision.Facts.ScriptRules, r) {
			continue
		}
		for _, p := range f.Decision.Pins {
			if p.Full || p.Mark.Mask&r.Mark.Mask == 0 {
				continue
			}
			list = append(list, Finding{Severity: Warning, What: fmt.Sprintf("others use bits of mark %s of uplink %s", p.Mark, p.Uplink),
				Evidence: r.String(), Mend: "a mark under a mask that leaves their bits alone, such as fwmark = \"0x2000/0xff00\""})
			break
		}
	}
	return list
}

func validMark(f Facts) []Finding {
	if f.Conf4["all"]["src_valid_mark"] != 1 {
		return nil
	}
	return []Finding{{Severity: Note, What: "rp_filter asks with marks on all interfaces", Evidence: "net.ipv4.conf.all.src_valid_mark is 1, and we never set that", Mend: "sysctl -w net.ipv4.conf.all.src_valid_mark=0, once no full tunnel of wg-quick is up"}}
}

func textMatch(f Facts) (list []Finding) {
	for _, t := range f.Decision.Tunnels {
		number := fmt.Sprint(t.Mark.Value)
		for _, r := range f.Decision.Facts.Rules {
			if table := fmt.Sprint(r.Table); r.Ours() && r.Action == policy.Lookup && table != number && strings.HasPrefix(table, number) {
				list = append(list, Finding{Severity: Error, What: fmt.Sprintf("`wg-quick down %s` will fail", t.Device),
					Evidence: fmt.Sprintf("it looks for \"lookup %s\", and finds: %s", number, r), Mend: "another FwMark for " + t.Device + ", such as 51820"})
				break
			}
		}
	}
	return list
}

func sameMark(f Facts) (list []Finding) {
	for i, t := range f.Decision.Tunnels {
		for _, o := range f.Decision.Tunnels[i+1:] {
			if t.Mark == o.Mark && t.Device != o.Device {
				list = append(list, Finding{Severity: Error, What: fmt.Sprintf("full tunnels %s and %s use one table", t.Device, o.Device),
					Evidence: "both have mark " + t.Mark.String(), Mend: "another FwMark for one of them"})
			}
		}
	}
	return list
}

func localBehind(f Facts) (list []Finding) {
	for _, family := range fwmark.Families {
		i := slices.IndexFunc(f.Decision.Facts.Rules, func(r policy.Rule) bool { return r.Family == family })
		if i < 0 || f.Decision.Facts.Rules[i].Table == policy.TableLocal {
			continue
		}
		list = append(list, Finding{Severity: Note, What: fmt.Sprintf("IPv%s asks other rules before the local table", family),
			Evidence: "the first is: " + f.Decision.Facts.Rules[i].String(), Mend: "nothing: rules of ours have look-ups of their own"})
	}
	return list
}

func oneSubnet(f Facts) (list []Finding) {
	type network struct {
		device string
		prefix netip.Prefix
	}
	var networks []network
	for _, a := range f.Decision.Facts.Addrs {
		uplink := slices.ContainsFunc(f.Decision.Uplinks, func(u fwmark.Uplink) bool { return u.Name == a.Device })
		if uplink && a.Global && a.Prefix.Addr().Is4() && a.Prefix.Bits() < 31 {
			networks = append(networks, network{a.Device, a.Prefix.Masked()})
		}
	}
	for i, a := range networks {
		for _, b := range networks[i+1:] {
			loose := func(device string) bool {
				return setting(f.Conf4, device, "arp_ignore") == 0 || setting(f.Conf4, device, "arp_announce") < 2
			}
			if a.device != b.device && a.prefix.Overlaps(b.prefix) && (loose(a.device) || loose(b.device)) {
				list = append(list, Finding{Severity: Warning, What: fmt.Sprintf("uplinks %s and %s answer ARP for each other", a.device, b.device),
					Evidence: fmt.Sprintf("both are in %s, with arp_ignore=0 or arp_announce<2", a.prefix), Mend: "sysctl -w net.ipv4.conf.all.arp_ignore=1 net.ipv4.conf.all.arp_announce=2, and in /etc/sysctl.d"})
			}
		}
	}
	return list
}

func openVPN(f Facts) (list []Finding) {
	for _, r := range f.Decision.Facts.Routes {
		if r.Table == policy.TableMain && r.Family == fwmark.IPv6 && r.Dst == netip.MustParsePrefix("fc00::/7") && r.Type == policy.Unicast {
			for _, l := range f.Decision.Facts.Links {
				if l.Name == r.Device && l.Kind == "tun" {
					list = append(list, Finding{Severity: Note, What: fmt.Sprintf("%s leads all of IPv6 away, private networks too", r.Device), Evidence: r.String(), Mend: "`redirect-gateway !ipv4 ipv6` without fc00::/7: `route-ipv6` lines of your own"})
				}
			}
		}
	}
	return list
}

func tooLarge(f Facts) (list []Finding) {
	for _, p := range f.Decision.Pins {
		up, known := f.MTU[p.Uplink]
		for _, device := range p.Devices {
			mtu, there := f.MTU[device]
			over := 60
			if slices.ContainsFunc(f.Endpoints[device], func(a netip.Addr) bool { return a.Is6() && !a.Is4In6() }) {
				over = 80
			}
			if known && there && mtu+over > up {
				list = append(list, Finding{Severity: Warning, What: fmt.Sprintf("packets of tunnel %s are larger than uplink %s carries", device, p.Uplink),
					Evidence: fmt.Sprintf("MTU %d, and %d bytes of WireGuard and IP, are more than %d", mtu, over, up), Mend: fmt.Sprintf("MTU = %d in the tunnel's file; now: ip link set %s mtu %d", up-over, device, up-over)})
			}
		}
	}
	return list
}

func saveConfig(f Facts) (list []Finding) {
	for _, device := range devices(f) {
		if file := f.Files[device]; file.Save {
			list = append(list, Finding{Severity: Warning, What: fmt.Sprintf("wg-quick overwrites names of endpoints of %s", device), Evidence: file.Path + " has SaveConfig = true", Mend: "SaveConfig = false there"})
		}
	}
	return list
}

func unmarkedFile(f Facts) (list []Finding) {
	for _, p := range f.Decision.Pins {
		for _, device := range p.Devices {
			if file, read := f.Files[device]; read && !p.Full && file.Mark == 0 && file.Peers != nil {
				list = append(list, Finding{Severity: Warning, What: fmt.Sprintf("tunnel %s is not pinned until PostUp, nor after a reload", device),
					Evidence: file.Path + " has no FwMark", Mend: fmt.Sprintf("FwMark = %#x in its [Interface]", p.Mark.Value)})
			}
		}
	}
	return list
}

func devices(f Facts) (names []string) {
	for name := range f.Files {
		names = append(names, name)
	}
	sort.Strings(names)
	return names
}

func flushed(f Facts) (list []Finding) {
	enabled := false
	if !f.Systemd {
		return nil
	}
	for link := range f.Links {
		enabled = enabled || path.Base(link) == systemd.Nftables
	}
	for _, p := range f.Decision.Pins {
		if set := f.Decision.Table.Have.Sets[nft.MarkSet(p.Mark)]; enabled && len(set.Cgroups) > 0 {
			list = append(list, Finding{Severity: Warning, What: "a reload of nftables.service unpins what NFTSet= has pinned",
				Evidence: fmt.Sprintf("it is enabled, and set %s has %d elements of others", set.Name, len(set.Cgroups)), Mend: "list these services as `cgroups`, too"})
		}
	}
	return list
}
