package main

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"strings"
)

// benchCase is one thing that the program does, and its peers. The first
// contender is the program.
type benchCase struct {
	name, target string
	contenders   func(host) ([]contender, error)
}

var cases = []benchCase{
	{"lease", "0.45 of the hook in shell", lease},
	{"settled", "1.00 of listing with ip, 16 MiB", settled},
	{"scratch", "1.00 of ip -batch, 16 MiB", scratch},
	{"feed", "500 ms, 64 MiB", feed},
}

// lease is a new address on the uplink that has a mark.
func lease(h host) ([]contender, error) {
	if err := write(shellHook, hookScript); err != nil {
		return nil, err
	}
	const old, current, other = "198.51.100.10", "198.51.100.20", "interface=up2 new_routers=198.51.100.1 new_subnet_mask=255.255.255.0"
	environment := func(words string) []string { return strings.Fields(other + " " + words) }
	with := func(name string, args ...string) contender {
		first := contender{name: name, args: args, env: environment("reason=BOUND new_ip_address=" + old)}
		c := contender{name: name, args: args, env: environment("reason=BOUND new_ip_address=" + current + " old_ip_address=" + old)}
		c.before = func() error {
			if err := h.clean(); err != nil {
				return err
			}
			to := func(address string) error {
				return script("ip addr flush dev up2; ip addr add " + address + "/24 dev up2; ip route add default via 198.51.100.1 dev up2 metric 2048")
			}
			if err := to(old); err != nil {
				return err
			}
			if _, err := first.run(); err != nil {
				return err
			}
			return to(current)
		}
		return c
	}
	return []contender{with("wg-multihome", "sh", "-c", h.binary+" exit-hook || :"), with("shell", "sh", shellHook)}, nil
}

// thousand gives up1 a thousand addresses, and returns the arguments that have
// all of them followed.
func thousand(h host) ([]string, error) {
	var addresses strings.Builder
	for i := range 1000 {
		fmt.Fprintf(&addresses, "addr add 10.50.%d.%d/16 dev up1\n", i/250, i%250+1)
	}
	const file, config = "/run/addresses", "/run/thousand.toml"
	if err := write(interfacesFile, ""); err != nil {
		return nil, err
	}
	if err := write(config, "[uplink.up1]\ngateway = \"10.50.200.1\"\n"); err != nil {
		return nil, err
	}
	if err := write(file, addresses.String()); err != nil {
		return nil, err
	}
	return []string{h.binary, "sync", "--config", config}, do([]string{"ip", "-batch", file})
}

// settled finds nothing to do where all stands.
func settled(h host) ([]contender, error) {
	sync, err := thousand(h)
	if err != nil {
		return nil, err
	}
	if err := do(sync); err != nil {
		return nil, err
	}
	const list = "ip rule; ip -6 rule; ip route show table all; ip -6 route show table all; ip addr"
	return []contender{{name: "wg-multihome", args: sync}, {name: "ip", args: []string{"sh", "-c", list}}}, nil
}

// scratch makes all rules and routes.
func scratch(h host) ([]contender, error) {
	sync, err := thousand(h)
	if err != nil {
		return nil, err
	}
	config := sync[2:]
	plan, err := output(append([]string{h.binary, "plan"}, config...)...)
	if err != nil {
		return nil, err
	}
	const file = "/run/batch"
	if err := write(file, batch(plan)); err != nil {
		return nil, err
	}
	if err := do(sync); err != nil { // tells, once
		return nil, err
	}
	down := func() error { return do(append([]string{h.binary, "down"}, config...)) }
	return []contender{
		{name: "wg-multihome", args: sync, before: down},
		{name: "ip -batch", args: []string{"ip", "-batch", file}, before: down},
	}, nil
}

// batch writes the steps of a plan as ip's batch mode has them.
func batch(plan string) string {
	var b strings.Builder
	for _, line := range strings.Split(strings.TrimSpace(plan), "\n") {
		words := strings.Fields(line)
		switch words[1] {
		case "route":
			fmt.Fprintf(&b, "route replace table %s %s proto 77\n", words[3], strings.Join(words[4:], " "))
		case "rule":
			fmt.Fprintf(&b, "rule add pref %s %s protocol 77\n", words[3], strings.Join(words[4:], " "))
		}
	}
	return b.String()
}

// feed finds nothing to do beside the 400,000 routes of others in main: those
// of a full feed, most of them to a /24, and no two of them one range.
func feed(h host) ([]contender, error) {
	const file = "/run/feed"
	if err := writeFeed(file); err != nil {
		return nil, err
	}
	if err := do([]string{"ip", "-batch", file}, []string{h.binary, "sync"}); err != nil {
		return nil, err
	}
	return []contender{
		{name: "wg-multihome", args: []string{h.binary, "sync"}},
		{name: "ip", args: []string{"ip", "route"}},
	}, nil
}

// writeFeed writes line by line: what this process has had of memory counts for
// the commands that it starts.
func writeFeed(file string) error {
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	w := bufio.NewWriter(f)
	for i := range 400000 {
		address := 16<<24 + uint32(i)<<12
		fmt.Fprintf(w, "route add %d.%d.%d.0/%d via 192.0.2.1 dev up1 proto bird\n", address>>24, address>>16&255, address>>8&255, 24-max(0, i%6-3))
	}
	return errors.Join(w.Flush(), f.Close())
}
