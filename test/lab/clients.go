package lab

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Client is a real DHCP client on the host, for some uplinks.
type Client struct {
	// Renew has the client ask an uplink's server for its lease again, soon, and
	// Rebind any server, where the client can be told so.
	Renew, Rebind func(uplink string)
	// Release has it give the lease back; dhcpcd gives all back, and ends.
	Release func(uplink string)
	// End ends it without a word to the server, by SIGTERM.
	End func()
}

// RealDhclient starts a dhclient for each uplink. They renew after 3 s: nothing
// else has dhclient do so.
func (l *Lab) RealDhclient(uplinks ...string) Client {
	l.t.Helper()
	l.Hook()
	l.Write("/etc/dhcp/dhclient-exit-hooks.d/zzz-note", "echo $interface $reason >>/run/events\n"+captured, 0o644)
	l.RenewAfter(3)
	for _, uplink := range uplinks {
		l.Dhclient(uplink)
	}
	return Client{
		Renew:   func(string) {},
		Rebind:  func(string) {},
		Release: l.Release,
		End: func() {
			for _, uplink := range uplinks {
				l.Script("read pid </run/dhclient." + uplink + ".pid && kill $pid")
			}
		},
	}
}

// dhcpcdConf keeps dhcpcd from what takes long, or is not its business here. By udev
// it would look for its interfaces in /sys, which is another network's.
const dhcpcdConf = `nodev
persistent
noipv6
option subnet_mask, routers, classless_static_routes
`

// RealDhcpcd starts one dhcpcd for all of the uplinks. conf is added to its
// configuration, one of dhcpcd.conf(5).
func (l *Lab) RealDhcpcd(conf string, uplinks ...string) Client {
	l.t.Helper()
	l.Script(`mkdir -p /var/lib/dhcpcd
mount -t tmpfs none /var/lib/dhcpcd
mount -t tmpfs none /usr/lib/dhcpcd/dhcpcd-hooks`)
	l.Write("/usr/lib/dhcpcd/dhcpcd-hooks/90-wg-multihome", fmt.Sprintf("if [ -x %[1]s ]; then %[1]s exit-hook --client dhcpcd >>/run/hook.log 2>&1 || :; fi\n", l.Binary), 0o644)
	l.Write("/usr/lib/dhcpcd/dhcpcd-hooks/95-note", "echo $interface $reason $protocol $if_up $if_down >>/run/events\n"+captured, 0o644)
	l.Write("/run/dhcpcd.conf", dhcpcdConf+conf, 0o644)
	end := l.daemon(append([]string{"dhcpcd", "--nobackground", "--config", "/run/dhcpcd.conf"}, uplinks...)...)
	return Client{
		// By signals, which are for all of its interfaces: of dhcpcd's own commands
		// 9.4.1 hears the first, and none after it ("cannot handle another client").
		Renew:  func(string) { l.t.Helper(); l.Script("read pid </run/dhcpcd/pid && kill -USR1 $pid") },
		Rebind: func(string) { l.t.Helper(); l.Script("read pid </run/dhcpcd/pid && kill -HUP $pid") },
		Release: func(string) { // asked again, it may have ended
			l.t.Helper()
			l.Script("if read pid </run/dhcpcd/pid; then kill -ALRM $pid || :; fi 2>/dev/null")
		},
		End: end,
	}
}

// captured has a hook write down its environment, for whoever wants to see it.
const captured = `[ ! -d /run/captured ] || env >/run/captured/$(date +%s%N)-$interface-${reason:-$1}
`

// RealUdhcpc starts a busybox udhcpc for each uplink, with Debian's script and ours
// behind it.
func (l *Lab) RealUdhcpc(uplinks ...string) Client {
	l.t.Helper()
	const script = "/run/udhcpc-script"
	l.Write(script, fmt.Sprintf(`#!/bin/sh
/etc/udhcpc/default.script "$@" >>/run/script.log 2>&1
%s exit-hook --client udhcpc "$@" >>/run/hook.log 2>&1
echo $interface $1 >>/run/events
%s`, l.Binary, captured), 0o755)
	ends := make([]func(), 0, len(uplinks))
	for _, uplink := range uplinks {
		ends = append(ends, l.daemon("busybox", "udhcpc", "-f", "-i", uplink, "-s", script, "-p", "/run/udhcpc."+uplink+".pid",
			"-t", "3", "-T", "1", "-A", "1", "-O", "staticroutes"))
	}
	signal := func(name string) func(string) {
		return func(uplink string) {
			l.t.Helper()
			l.Script("read pid </run/udhcpc." + uplink + ".pid && kill -" + name + " $pid")
		}
	}
	return Client{Renew: signal("USR1"), Rebind: signal("USR1"), Release: signal("USR2"), End: func() {
		for _, end := range ends {
			end()
		}
	}}
}

// daemon starts a program that has processes of its own, and goes on until the
// test ends, or end is called: it gets a SIGTERM. Whatever has not ended with it
// is killed, once its network is the host's.
func (l *Lab) daemon(args ...string) (end func()) {
	l.t.Helper()
	log, err := os.Create(filepath.Join(l.t.TempDir(), "log"))
	fatal(l.t, err)
	ctx, cancel := context.WithCancel(context.Background())
	cmd := l.Command(ctx, nil, args...)
	cmd.Stdout, cmd.Stderr = log, log // no pipe, that a child would keep open
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 10 * time.Second
	fatal(l.t, cmd.Start())
	ended := false
	end = func() {
		if !ended {
			ended = true
			cancel()
			_ = cmd.Wait()
		}
	}
	l.t.Cleanup(func() {
		end()
		l.killAll(args[0])
		if text, err := os.ReadFile(log.Name()); err == nil && l.t.Failed() {
			l.t.Logf("%v:\n%s", args, text)
		}
		_ = log.Close()
	})
	return end
}

// killAll kills the processes in the host's network whose command begins with a
// name.
func (l *Lab) killAll(name string) {
	own, err := os.Readlink(l.Network())
	if err != nil {
		return
	}
	links, _ := filepath.Glob("/proc/[0-9]*/ns/net")
	for _, path := range links {
		folder := filepath.Dir(filepath.Dir(path))
		command, _ := os.ReadFile(filepath.Join(folder, "cmdline"))
		network, err := os.Readlink(path)
		pid, atoiErr := strconv.Atoi(filepath.Base(folder))
		if err == nil && atoiErr == nil && network == own && strings.HasPrefix(filepath.Base(strings.SplitN(string(command), "\x00", 2)[0]), name) {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}
}
