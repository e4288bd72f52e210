package doctor

import (
	"cmp"
	"fmt"
	"path"
	"slices"
	"strings"

	"wg-multihome/cmd/internal/systemd"
)

// script finds hooks that call the original shell script's folder.
func script(f Facts) (list []Finding) {
	for _, name := range sorted(f.Texts) {
		if strings.Contains(name, "/dhclient-exit-hooks.d/") && !strings.Contains(f.Texts[name], "wg-multihome") && strings.Contains(f.Texts[name], "multihomed") {
			list = append(list, Finding{Severity: Error, What: "the original shell script sets rules and routes beside us", Evidence: name, Mend: "mv " + name + " /root/, then wg-multihome sync (wg-multihome help install for hosts that keep it)"})
		}
	}
	return list
}

func firewalld(f Facts) []Finding {
	const file = "/etc/firewalld/firewalld.conf"
	value, _ := keyed(f.Texts, []string{file}, "IPv6_rpfilter")
	runs := slices.ContainsFunc(f.Processes, func(p Process) bool { return p.Name == "firewalld" })
	if !runs || no(value) || !packetServices(f, "") {
		return nil
	}
	return []Finding{{Severity: Warning, What: "firewalld drops answers to services' IPv6 connections", Evidence: fmt.Sprintf("it runs, and %s has IPv6_rpfilter=%s", file, cmp.Or(value, "yes, which it is unless somebody says so")), Mend: `IPv6_rpfilter=no there, or marking = "socket"`}}
}

func bound(f Facts) (list []Finding) {
	if !f.Systemd {
		return nil
	}
	for _, p := range f.Decision.Pins {
		for _, cgroup := range p.Cgroups {
			unit := path.Base(cgroup)
			for _, name := range sorted(f.Texts) {
				if !strings.HasSuffix(name, "/"+unit) && !strings.Contains(name, "/"+unit+".d/") {
					continue
				}
				if device, _ := keyed(f.Texts, []string{name}, "BindNetworkInterface"); device != "" && device != p.Uplink {
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

func oldWatch(f Facts) (list []Finding) {
	for _, p := range f.Processes {
		if strings.HasPrefix(p.Name, "wg-multihome") && slices.Contains(p.Args, "watch") && strings.HasSuffix(p.Exe, " (deleted)") {
			list = append(list, Finding{Severity: Warning, What: "watch runs as it was before an upgrade", Evidence: fmt.Sprintf("process %d runs %s", p.PID, p.Exe), Mend: "systemctl restart " + systemd.Watch})
		}
	}
	return list
}
