package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const (
	shellHookRole = "shell hook" // of dhclient
	ipRole        = "ip"         // a command of it
)

// shell is the host that the stand-in of the shell hook keeps.
func shell() keeper {
	return keeper{name: "shell hook", hook: []string{"/proc/self/exe"}, env: []string{roleVariable + "=" + shellHookRole}}
}

// shellHook is test/bench/hook.sh, the stand-in of the shell hook, line by line, so
// that it runs where neither iproute2 nor ifupdown is. Each of its commands is a
// process, as in a shell, and how most of them end is as little looked at.
func shellHook(variable func(string) string) error {
	marks := map[string]string{uplink(up2): fmt.Sprintf("%#x", mark)} // what ifquery says
	address, old := variable("new_ip_address"), variable("old_ip_address")
	switch variable("reason") {
	case "BOUND", "RENEW", "REBIND", "REBOOT":
		if old != "" && old != address {
			leave(old)
		}
		router, _, _ := strings.Cut(variable("new_routers"), " ")
		enter(variable("interface"), address, router, marks[variable("interface")])
	case "EXPIRE", "FAIL", "RELEASE", "STOP":
		leave(old)
	}
	return nil
}

// run runs a command of ip(8).
func run(words string) error {
	cmd := exec.Command("/proc/self/exe", strings.Fields(words)...)
	cmd.Env = append(os.Environ(), roleVariable+"="+ipRole)
	return cmd.Run()
}

// forget deletes the rules with a selector.
func forget(selector string) {
	for run("rule del "+selector) == nil {
	}
}

func leave(address string) {
	forget("from " + address)
	_ = run("route flush table " + tableOf(address))
}

func enter(device, address, router, mark string) {
	leave(address)
	table := tableOf(address)
	_ = run("route add default via " + router + " dev " + device + " table " + table)
	_ = run("rule add from " + address + " lookup " + table)
	_ = run("rule add from " + address + " lookup main suppress_prefixlength 0")
	if mark == "" {
		return
	}
	forget("fwmark " + mark)
	_ = run("rule add fwmark " + mark + " unreachable")
	_ = run("rule add fwmark " + mark + " lookup " + table)
	_ = run("rule add fwmark " + mark + " lookup main suppress_prefixlength 0")
}

// tableOf is an address as a number.
func tableOf(address string) string {
	four := net.ParseIP(address).To4()
	if four == nil {
		return "0"
	}
	return strconv.FormatUint(uint64(binary.BigEndian.Uint32(four)), 10)
}

// ip does what ip(8) does, of which it knows what shellHook says.
func ip(words []string) error {
	if len(words) < 2 {
		return errors.New("ip: no command")
	}
	values := map[string]string{}
	for rest := words[2:]; len(rest) > 0; {
		if rest[0] == "default" || rest[0] == "unreachable" || len(rest) == 1 {
			values[rest[0]], rest = "yes", rest[1:]
			continue
		}
		values[rest[0]], rest = rest[1], rest[2:]
	}
	switch words[0] + " " + words[1] {
	case "rule add":
		r, err := ruleOf(values)
		if err != nil {
			return err
		}
		return netlink.RuleAdd(r)
	case "rule del":
		r, err := ruleOf(values)
		if err != nil {
			return err
		}
		return netlink.RuleDel(r)
	case "route add":
		return addDefault(values)
	case "route flush":
		return flushTable(values["table"])
	}
	return fmt.Errorf("ip: %q is not known", strings.Join(words, " "))
}

func ruleOf(values map[string]string) (*netlink.Rule, error) {
	r := netlink.NewRule()
	r.Family, r.Table = netlink.FAMILY_V4, unix.RT_TABLE_UNSPEC
	var err error
	for word, value := range values {
		var number uint64
		if word != "from" && word != "unreachable" && value != "main" {
			if number, err = strconv.ParseUint(value, 0, 32); err != nil {
				return nil, err
			}
		}
		switch word {
		case "from":
			if r.Src, err = netlink.ParseIPNet(value + "/32"); err != nil {
				return nil, err
			}
		case "fwmark":
			r.Mark = uint32(number)
		case "lookup":
			r.Table = int(number)
			if value == "main" {
				r.Table = unix.RT_TABLE_MAIN
			}
		case "suppress_prefixlength":
			r.SuppressPrefixlen = int(number)
		case "unreachable":
			r.Type = unix.FR_ACT_UNREACHABLE
		}
	}
	return r, nil
}

func addDefault(values map[string]string) error {
	link, err := netlink.LinkByName(values["dev"])
	if err != nil {
		return err
	}
	table, err := strconv.ParseUint(values["table"], 10, 32)
	if err != nil {
		return err
	}
	return netlink.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Gw: parseIP(values["via"]), Table: int(table), Protocol: unix.RTPROT_BOOT})
}

func flushTable(text string) error {
	table, err := strconv.ParseUint(text, 10, 32)
	if err != nil {
		return err
	}
	routes, err := netlink.RouteListFiltered(netlink.FAMILY_V4, &netlink.Route{Table: int(table)}, netlink.RT_FILTER_TABLE)
	if err != nil {
		return err
	}
	for _, r := range routes {
		if err := netlink.RouteDel(&r); err != nil {
			return err
		}
	}
	return nil
}
