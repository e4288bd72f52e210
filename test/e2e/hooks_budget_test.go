package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// TestHooksThatHangShareTheirTime: hook-timeout is for all hooks of a run. The
// first that hangs uses it up; what the others were to be told, the next run
// tells them.
func TestHooksThatHangShareTheirTime(t *testing.T) {
	l := newLab(t)
	l.Static()
	l.Script(`ip link add up3 type veth peer name side; ip link set up3 up; ip link set side up
ip addr add 192.168.3.10/24 dev up3; ip addr add 2001:db8:3::10/64 dev up3 nodad
ip route add default via 192.168.3.1 dev up3 metric 3; ip route add default via 2001:db8:3::1 dev up3 metric 3`)
	const hook = `#!/bin/sh
echo $IFACE$MULTIHOMED_FAMILY >>/run/begun
[ -e /run/quick ] || exec sleep 1000
echo $IFACE$MULTIHOMED_FAMILY >>/run/ended
`
	l.Write("/etc/dhcp/multihomed.d/slow", hook, 0o755)
	config := l.TOML("hook-timeout = \"2s\"\n[uplink.up2]\nfwmark = 0x2005\n")
	words := func(file string) []string { return strings.Fields(l.Read(file)) }
	r := l.MH("sync", "--config", config)
	wantCode(t, r, 1)
	begun := words("/run/begun")
	if len(begun) != 1 || len(words("/run/ended")) != 0 {
		t.Fatalf("begun %v, ended %v; want one that is ended\n%s", begun, words("/run/ended"), r.Stderr)
	}
	wantPart(t, "the message", r.Stderr, "was ended after")
	wantPart(t, "the message", r.Stderr, "next run")
	noDriftOf(t, l, config)

	l.Write("/run/quick", "", 0o644)
	l.MustMH("sync", "--config", config)
	var rest []string
	for _, uplink := range []string{"up1", "up2", "up3"} {
		for _, family := range []int{4, 6} {
			if told := fmt.Sprintf("%s%d", uplink, family); told != begun[0] {
				rest = append(rest, told)
			}
		}
	}
	ended := words("/run/ended")
	slices.Sort(ended)
	if !slices.Equal(ended, rest) {
		t.Errorf("the next run told %v, want %v", ended, rest)
	}
	l.MustMH("sync", "--config", config)
	if again := words("/run/ended"); len(again) != len(rest) {
		t.Errorf("told again: %v", again[len(rest):])
	}
}
