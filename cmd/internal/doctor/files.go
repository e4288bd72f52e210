package doctor

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"wg-multihome/cmd/internal/systemd"
)

// keyed returns the last value that ini files give a key, in the order in which
// they are read: by name, whatever their folder; "": none.
func keyed(texts map[string]string, folder, key string) (value, file string) {
	var names []string
	for name := range texts {
		if strings.Contains(name, folder) {
			names = append(names, name)
		}
	}
	slices.SortFunc(names, func(a, b string) int {
		conf := func(n string) int { // the file itself is read before its folder
			if strings.Contains(n, ".d/") || strings.Contains(n, "conf.d/") {
				return 1
			}
			return 0
		}
		if d := conf(a) - conf(b); d != 0 {
			return d
		}
		return strings.Compare(path.Base(a), path.Base(b))
	})
	for _, name := range names {
		for _, line := range strings.Split(texts[name], "\n") {
			k, v, is := strings.Cut(line, "=")
			if is && strings.TrimSpace(k) == key {
				value, file = strings.TrimSpace(v), name
			}
		}
	}
	return value, file
}

func no(value string) bool {
	return slices.Contains([]string{"no", "false", "0", "off", "n", "f"}, strings.ToLower(value))
}

func networkd(f Facts) []Finding {
	var managed []string
	for _, u := range f.Decision.Uplinks {
		if slices.Contains(f.Networkd, u.Name) {
			managed = append(managed, u.Name)
		}
	}
	const key = "ManageForeignRoutingPolicyRules"
	value, _ := keyed(f.Texts, "/systemd/networkd.conf", key)
	if len(f.Networkd) == 0 || no(value) {
		return nil
	}
	evidence := fmt.Sprintf("it manages %s, and %s is not \"no\"", strings.Join(f.Networkd, ", "), key)
	severity := Error
	if len(managed) == 0 {
		severity = Warning // it does so at a reconfigure of any link
	}
	return []Finding{{Severity: severity, What: "systemd-networkd deletes our rules at `networkctl reconfigure`", Evidence: evidence,
		Mend: "wg-multihome install, then systemctl restart systemd-networkd"}}
}

// script finds hooks that call the original shell script's folder.
func script(f Facts) (list []Finding) {
	for _, name := range sorted(f.Texts) {
		if strings.Contains(name, "/dhclient-exit-hooks.d/") && !strings.Contains(f.Texts[name], "wg-multihome") && strings.Contains(f.Texts[name], "multihomed") {
			list = append(list, Finding{Severity: Error, What: "the original shell script sets rules and routes beside us", Evidence: name, Mend: "mv " + name + " /root/, then wg-multihome sync (wg-multihome help install for hosts that keep it)"})
		}
	}
	return list
}

func managerDhclient(f Facts) []Finding {
	value, file := keyed(f.Texts, "/NetworkManager/", "dhcp")
	if value != "dhclient" {
		return nil
	}
	return []Finding{{Severity: Warning, What: "NetworkManager's leases may be lost at renewals", Evidence: file + " has dhcp=dhclient", Mend: "dhcp=internal there, then systemctl restart NetworkManager"}}
}

func firewalld(f Facts) []Finding {
	const file = "/etc/firewalld/firewalld.conf"
	text, there := f.Texts[file]
	value, _ := keyed(map[string]string{file: text}, "/firewalld/", "IPv6_rpfilter")
	if !there || no(value) || !packetServices(f, "") {
		return nil
	}
	return []Finding{{Severity: Warning, What: "firewalld drops answers to services' IPv6 connections", Evidence: file + " has IPv6_rpfilter=" + value, Mend: `IPv6_rpfilter=no there, or marking = "socket"`}}
}

func bound(f Facts) (list []Finding) {
	for _, p := range f.Decision.Pins {
		for _, cgroup := range p.Cgroups {
			unit := path.Base(cgroup)
			for _, name := range sorted(f.Texts) {
				if !strings.HasSuffix(name, "/"+unit) && !strings.Contains(name, "/"+unit+".d/") {
					continue
				}
				if device, _ := keyed(map[string]string{name: f.Texts[name]}, "/", "BindNetworkInterface"); device != "" && device != p.Uplink {
					list = append(list, Finding{Severity: Error, What: fmt.Sprintf("%s is bound to %s, and pinned to %s", unit, device, p.Uplink), Evidence: name + " has BindNetworkInterface=" + device, Mend: "BindNetworkInterface=" + p.Uplink + ", or none"})
				}
			}
		}
	}
	return list
}

func hooks(f Facts) (list []Finding) {
	for _, h := range f.Hooks {
		list = append(list, Finding{Severity: Warning, What: "a hook does not call us as it is to", Evidence: h.Path + ": " + h.Lacks, Mend: "wg-multihome install"})
	}
	return list
}

func disabled(f Facts) (list []Finding) {
	if !f.Systemd {
		return nil
	}
	for _, unit := range []string{systemd.Guards, systemd.Watch} {
		there, enabled := false, false
		for name := range f.Texts {
			there = there || path.Base(name) == unit
		}
		for link := range f.Links {
			enabled = enabled || path.Base(link) == unit
		}
		if there && !enabled {
			list = append(list, Finding{Severity: Error, What: unit + " does not start at boot", Evidence: "no link in " + systemd.AdminUnits + " enables it", Mend: "systemctl enable --now " + unit})
		}
	}
	return list
}

func oldWatch(f Facts) []Finding {
	if f.OldWatch == "" {
		return nil
	}
	return []Finding{{Severity: Warning, What: "watch runs as it was before an upgrade", Evidence: f.OldWatch, Mend: "systemctl restart " + systemd.Watch}}
}

func sorted(texts map[string]string) (names []string) {
	for name := range texts {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}
