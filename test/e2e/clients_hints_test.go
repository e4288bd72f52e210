package e2e

import (
	"testing"

	"wg-multihome/test/lab"
)

// TestHintsAreFollowed: NetworkManager, pppd and the three ifupdown tell of
// something, and main has the gateway. Their hooks are run as they run them: each
// has the host right after it, and none of them fails.
func TestHintsAreFollowed(t *testing.T) {
	d := docHost(t)
	d.Write("/etc/wg-multihome.toml", "[uplink.wan2]\nfwmark = 0x2005\n[uplink.ppp0]\nfwmark = 0x3005\n", 0o644)
	d.Script("mkdir -p /run/root/usr/sbin; cd /run/root/usr/sbin; : >NetworkManager; : >pppd; : >ifup")
	if r := d.sh("wg-multihome install --root /run/root"); r.Code != 0 {
		t.Fatal(r.Stderr)
	}
	const etc, dispatcher = "/run/root/etc/", "/run/root/etc/NetworkManager/dispatcher.d/90-wg-multihome"
	d.MustMH("sync")
	for _, c := range []struct {
		what, change string
		env, hook    []string
		silent       bool // this one is no reason to do anything
	}{
		{"NetworkManager, another router", "ip route replace default via 198.51.100.7 metric 2", []string{"NM_DISPATCHER_ACTION=dhcp4-change"}, []string{dispatcher, "wan2", "dhcp4-change"}, false},
		{"NetworkManager, a host name", "ip route replace default via 198.51.100.1 metric 2", nil, []string{dispatcher, "none", "hostname"}, true},
		{"NetworkManager, before up", "", nil, []string{"/run/root/etc/NetworkManager/dispatcher.d/pre-up.d/90-wg-multihome", "wan2", "pre-up"}, false},
		{"NetworkManager, down", "ip addr flush dev wan2; ip -6 addr flush dev wan2 scope global", nil, []string{dispatcher, "wan2", "down"}, false},
		{"NetworkManager, reapply", "ip addr add 198.51.100.10/24 dev wan2; ip route replace default via 198.51.100.1 metric 2; ip -6 addr add 2001:db8:2::10/64 dev wan2 nodad; ip -6 route replace default via 2001:db8:2::1 metric 2",
			nil, []string{dispatcher, "wan2", "reapply"}, false},
		// It adds no default where there is one.
		{"pppd, up", "ip tuntap add ppp0 mode tun; ip addr add 203.0.113.70 peer 203.0.113.71 dev ppp0; ip link set ppp0 up",
			[]string{"PPP_IFACE=ppp0", "PPP_LOCAL=203.0.113.70", "PPP_REMOTE=203.0.113.71"}, []string{"run-parts", "--arg=ppp0", "--arg=/dev/ttyS0", "--arg=0", "--arg=203.0.113.70", "--arg=203.0.113.71", "--arg=", etc + "ppp/ip-up.d"}, false},
		{"pppd, down", "ip link del ppp0", []string{"PPP_IFACE=ppp0"}, []string{"run-parts", etc + "ppp/ip-down.d"}, false},
		{"ifup of ifupdown", "ip route replace default via 198.51.100.7 metric 2", []string{"IFACE=wan2", "MODE=start", "PHASE=post-up", "ADDRFAM=inet", "METHOD=static"}, []string{"run-parts", etc + "network/if-up.d"}, false},
		{"the end of ifup -a", "ip route replace default via 198.51.100.1 metric 2", []string{"IFACE=--all", "MODE=start", "PHASE=post-up", "ADDRFAM=meta"}, []string{"run-parts", etc + "network/if-up.d"}, true},
		{"ifup of ifupdown-ng", "", []string{"IFACE=wan2", "MODE=start", "PHASE=up", "INTERFACES_FILE=/etc/network/interfaces"}, []string{"run-parts", etc + "network/if-up.d"}, false},
		{"ifdown of ifupdown2", "ip -4 addr flush dev wan2", []string{"IFACE=wan2", "LOGICAL=wan2", "MODE=stop", "PHASE=post-down", "ADDRFAM=inet", "METHOD=dhcp"}, []string{"run-parts", etc + "network/if-post-down.d"}, false},
	} {
		if c.change != "" {
			d.Script(c.change)
		}
		r := d.Try(c.env, c.hook...)
		if r.Code != 0 || r.Stdout != "" {
			t.Errorf("%s: exit status %d, it said %s%s", c.what, r.Code, r.Stdout, r.Stderr)
		}
		want := 0
		if c.silent {
			want = 3
		}
		if plan := d.MH("plan", "--exit-code"); plan.Code != want {
			t.Errorf("%s: plan ends with %d\n%s", c.what, plan.Code, plan.Stdout)
		}
		for _, family := range []string{"-4", "-6"} {
			wantPart(t, c.what, d.Rules(family), "fwmark 0x2005 unreachable")
		}
		if c.what == "pppd, up" {
			wantPart(t, "the table of ppp0", d.Default(tableOf("203.0.113.70")), "default dev ppp0 ")
		}
	}
	d.WantRefused(lab.Far4, "", mark)
	d.WantSeen(lab.Far6, "", mark, two6)
	noSpoof(t, d.Lab)
}
