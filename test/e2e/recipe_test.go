package e2e

import (
	"fmt"
	"strings"
	"testing"

	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"

	"wg-multihome/test/lab"
)

// byVPN is a service that leaves by a VPN or not at all, where the VPN leaves by
// the second uplink or not at all.
type byVPN struct {
	t       *testing.T
	l       *lab.Lab
	service string // its cgroup
	config  string
	host    *lab.Tunnel // nil: wg0 is not there
	far     *lab.Tunnel
	keys    [2]wgtypes.Key

	beside func() int // packets of the tunnel that left by the first uplink
	inside func() int // packets of the service that left by the tunnel
}

// newByVPN makes all of it but wg0. Everything is configured before that is
// there, as at boot.
func newByVPN(t *testing.T) *byVPN {
	t.Helper()
	l := newLab(t)
	l.Static()
	b := &byVPN{t: t, l: l, service: l.MakeCgroup("a.service"), keys: [2]wgtypes.Key{newKey(t), newKey(t)}}
	b.config = l.TOML(strings.NewReplacer("wan2", "up2", "transmission-daemon.service", b.service).Replace(docText(t, "[uplink.wan2]\nfwmark = 0x2005\nwireguard = [\"wg0\"]\n\n[uplink.wg0]")))
	public := b.keys[0].PublicKey()
	b.far = l.Tunnel(l.Far, "wg0", fmt.Sprintf("private_key=%x\nlisten_port=51820\npublic_key=%x\nallowed_ip=10.200.0.1/32\nallowed_ip=fd00:200::1/128", b.keys[1][:], public[:]))
	l.Far.Script("ip addr add 10.200.0.2/24 dev wg0; ip addr add fd00:200::2/64 dev wg0 nodad; ip link set wg0 up")
	b.beside = counting(t, l.ISP1, "prerouting priority -300", "iifname home udp dport 51820")
	b.inside = counting(t, l.Far, "prerouting priority -300", "iifname wg0 th dport { 7, 9 }")
	return b
}

// up makes wg0 as wg-quick does with `Table = off` and FwMark.
func (b *byVPN) up() {
	b.t.Helper()
	public := b.keys[1].PublicKey()
	b.host = b.l.Tunnel(b.l.Namespace, "wg0", fmt.Sprintf("private_key=%x\nfwmark=%d\npublic_key=%x\nendpoint=%s:51820\npersistent_keepalive_interval=1\nallowed_ip=0.0.0.0/0\nallowed_ip=::/0",
		b.keys[0][:], mark, public[:], lab.Far4))
	b.l.Script("ip addr add 10.200.0.1/32 dev wg0; ip addr add fd00:200::1/128 dev wg0 nodad; ip link set wg0 up")
}

func (b *byVPN) sync() { b.t.Helper(); b.l.MustMH("sync", "--config", b.config) }

// works asks far from the service, which is to see the tunnel's addresses.
func (b *byVPN) works(when string) {
	b.t.Helper()
	// A handshake may come some seconds later.
	lab.Until(b.t, "far hears the service "+when, func() bool {
		return b.l.Ask(lab.Query{Network: "udp", Far: lab.Far4, Cgroup: b.service}) == "10.200.0.1"
	})
	wantEqual(b.t, "the tunnel's own address, as far sees it", addrOf(b.far.Get("endpoint")), two4)
	for far, seen := range map[string]string{lab.Far4: "10.200.0.1", lab.Far6: "fd00:200::1"} {
		wantService(b.t, b.l, b.service, far, seen)
	}
	b.l.WantSeen(lab.Far4, "", 0, one4) // nobody else is in the tunnel
	b.l.WantSeen(lab.Far6, "", 0, one6)
}

// cutOff asks far from the service in vain. What is not pinned goes on.
func (b *byVPN) cutOff(when string) {
	b.t.Helper()
	before := b.inside()
	for far, network := range map[string]string{lab.Far4: "udp", lab.Far6: "tcp"} {
		if got := b.l.Ask(lab.Query{Network: network, Far: far, Cgroup: b.service}); !strings.HasPrefix(got, "error: ") {
			b.t.Errorf("%s: far saw %q of the service's %s", when, got, network)
		}
	}
	if n := b.inside() - before; n != 0 {
		b.t.Errorf("%s: %d packets reached far in the tunnel", when, n)
	}
	b.l.WantSeen(lab.Far4, "", 0, one4)
}

// TestTunnelOfAService is README's recipe of a service by the VPN, and the VPN
// by one uplink. All the while the service sends: no packet of its leaves outside
// of the tunnel, and none of the tunnel's leaves by the other uplink, whatever is
// down, and whether or not a run of ours has come since.
func TestTunnelOfAService(t *testing.T) {
	b := newByVPN(t)
	l := b.l
	b.sync()
	// What is not pinned is counted by the same counters.
	unpinned(t, l)
	l.Send(lab.Sender{To: lab.Far4}, 1)
	lab.Until(t, "the routers count", func() bool { return unpinned(t, l) == 1 })
	sends(l, b.service, lab.Far4)
	sends(l, b.service, lab.Far6)
	wrong := func(when string) {
		t.Helper()
		if n := unpinned(t, l); n != 1 {
			t.Errorf("%s: %d packets of the service left outside of the tunnel", when, n-1)
		}
		if n := b.beside(); n != 0 {
			t.Errorf("%s: %d packets of the tunnel left by the other uplink", when, n)
		}
	}
	for _, step := range []struct {
		when  string
		do    func()
		works bool
	}{
		{"before wg0 is there", func() {}, false},
		{"with wg0, and no run of ours since", b.up, false},
		{"after sync", b.sync, true},
		{"with wg0 down", func() { l.Run("ip", "link", "set", "wg0", "down") }, false},
		{"with wg0 down, after sync", b.sync, false},
		{"with wg0 up again", func() {
			l.Script("ip link set wg0 up; ip addr replace fd00:200::1/128 dev wg0 nodad")
			b.sync()
		}, true},
		{"with the second uplink down", func() { l.Run("ip", "link", "set", "up2", "down") }, false},
		{"with the second uplink down, after sync", b.sync, false},
		{"with the second uplink up again", func() {
			l.Script(`ip link set up2 up; ip -6 addr add 2001:db8:2::10/64 dev up2 nodad
ip route replace default via 198.51.100.1 dev up2 metric 2; ip route replace default via 2001:db8:2::1 dev up2 metric 2`)
			b.sync()
		}, true},
		{"with wg0 gone", func() { b.host.Stop() }, false},
		{"with wg0 gone, after sync", b.sync, false},
		{"with another wg0", func() { b.up(); b.sync() }, true},
	} {
		step.do()
		if step.works {
			b.works(step.when)
		} else {
			b.cutOff(step.when)
		}
		wrong(step.when)
	}
	if b.inside() == 0 {
		t.Error("the tunnel carried nothing: nothing was proved")
	}
	noDriftOf(t, l, b.config)
	noSpoof(t, l)
}

// sends has a cgroup send datagrams until the test ends, each a flow of its own.
func sends(l *lab.Lab, cgroup, to string) {
	l.Start(nil, "bash", "-c", fmt.Sprintf(`echo $$ >%s/cgroup.procs
exec 9<> <(:) 2>/dev/null
while :; do
	echo >/dev/udp/%s/9
	read -t 0.02 -u 9
done`, l.CgroupDir(cgroup), to))
}

// unpinned counts what left for port 9, as the flood does, by an uplink.
func unpinned(t *testing.T, l *lab.Lab) int {
	t.Helper()
	return sent(t, l.ISP1) + sent(t, l.ISP2)
}
