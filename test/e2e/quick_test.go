package e2e

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"

	"wg-multihome/test/lab"
)

// quick is a tunnel that wg-quick makes on the host, and its other end.
type quickTunnel struct {
	l       *lab.Lab
	name    string
	far     *lab.Tunnel
	key     wgtypes.Key
	peer    wgtypes.Key
	port    int
	number  int
	allowed string
}

// newQuick makes the other end, number 0 or 1, and chooses keys.
func newQuick(t *testing.T, l *lab.Lab, number int, allowed string) *quickTunnel {
	t.Helper()
	q := &quickTunnel{l: l, number: number, name: fmt.Sprintf("wg%d", number), key: newKey(t), port: 51820 + number, allowed: allowed}
	farKey := newKey(t)
	q.peer = farKey.PublicKey()
	public := q.key.PublicKey()
	q.far = l.Tunnel(l.Far, q.name, fmt.Sprintf("private_key=%x\nlisten_port=%d\npublic_key=%x\nallowed_ip=10.20%d.0.1/32", farKey[:], q.port, public[:], number))
	l.Far.Script(fmt.Sprintf("ip addr add 10.20%d.0.2/24 dev %s; ip link set %[2]s up", number, q.name))
	return q
}

// write writes /etc/wireguard/DEV.conf, with further lines about the device.
func (q *quickTunnel) write(lines ...string) {
	q.l.Write("/etc/wireguard/"+q.name+".conf", fmt.Sprintf(`[Interface]
PrivateKey = %[1]s
Address = 10.20%[2]d.0.1/24
%[3]s
PostUp = %[4]s sync --hook
PostDown = %[4]s sync --hook
[Peer]
PublicKey = %[5]s
AllowedIPs = %[6]s
Endpoint = %[7]s:%[8]d
PersistentKeepalive = 1
`, q.key, q.number, strings.Join(lines, "\n"), q.l.Binary, q.peer, q.allowed, lab.Far4, q.port), 0o600)
}

// do runs wg-quick.
func (q *quickTunnel) do(t *testing.T, what string) string {
	t.Helper()
	r := q.l.Try([]string{q.l.WireGuardGo()}, "wg-quick", what, q.name)
	if r.Code != 0 {
		t.Fatalf("wg-quick %s: exit status %d\n%s%s%s", what, r.Code, r.Stdout, r.Stderr, q.l.Read("/run/wireguard-go.log"))
	}
	return r.Stdout + r.Stderr
}

// reload is what `systemctl reload wg-quick@` does, but for setconf in the
// place of syncconf, which it is like.
func (q *quickTunnel) reload() {
	q.l.Script(fmt.Sprintf("wg-quick strip %[1]s >/run/strip 2>/dev/null; wg setconf %[1]s /run/strip", q.name))
}

func (q *quickTunnel) mark() string {
	return strings.TrimSpace(q.l.Run("wg", "show", q.name, "fwmark"))
}

// from waits until far believes the host to be at an address, and the tunnel
// carries something.
func (q *quickTunnel) from(t *testing.T, addr string) {
	t.Helper()
	lab.Until(t, "far sees "+q.name+" from "+addr, func() bool { return addrOf(q.far.Get("endpoint")) == addr })
	before := q.received(t)
	stop := q.l.Start(nil, "bash", "-c", fmt.Sprintf(`exec 9<> <(:)
while :; do
	printf %%1000s x >/dev/udp/10.20%d.0.2/9
	read -t 0.05 -u 9
done`, q.number))
	defer stop()
	lab.Until(t, "the tunnel carries", func() bool { return q.received(t) >= before+1000 }) // keepalives are shorter
}

// send sends 1,000 bytes into the tunnel.
func (q *quickTunnel) send() {
	q.l.Try(nil, "bash", "-c", fmt.Sprintf("printf %%1000s x >/dev/udp/10.20%d.0.2/9", q.number))
}

// received is how many bytes far has had from the host.
func (q *quickTunnel) received(t *testing.T) int {
	t.Helper()
	n, err := strconv.Atoi(q.far.Get("rx_bytes"))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestTunnelWgQuick(t *testing.T) {
	const all, some = "0.0.0.0/0", "10.200.0.0/24"
	for name, c := range map[string]struct {
		allowed string
		lines   []string
		mark    string // of the device, in the end
		rule    string // of wg-quick
	}{
		"full":              {all, nil, "0xca6c", "not from all fwmark 0xca6c lookup 51820"},
		"full, auto":        {all, []string{"Table = auto"}, "0xca6c", "not from all fwmark 0xca6c lookup 51820"},
		"full, FwMark":      {all, []string{"FwMark = 0x2005"}, "0x2005", "not from all fwmark 0x2005 lookup 8197"},
		"full, off":         {all, []string{"Table = off"}, "0x2005", ""},
		"full, off, FwMark": {all, []string{"Table = off", "FwMark = 0x2005"}, "0x2005", ""},
		"full, a table":     {all, []string{"Table = 77"}, "0x2005", ""},
		"split":             {some, nil, "0x2005", ""},
		"split, FwMark":     {some, []string{"FwMark = 0x2005"}, "0x2005", ""},
		"both families":     {all + ", ::/0", nil, "0xca6c", "not from all fwmark 0xca6c lookup 51820"},
	} {
		for _, first := range []string{"ours first", "wg-quick first"} {
			t.Run(name+", "+first, func(t *testing.T) {
				l := newLab(t)
				l.Static()
				l.Interfaces(tunnelled)
				q := newQuick(t, l, 0, c.allowed)
				q.write(c.lines...)
				if first == "ours first" {
					l.MustMH("sync")
				}
				q.do(t, "up")
				check := func() {
					t.Helper()
					wantEqual(t, "mark", q.mark(), c.mark)
					noDrift(t, l)
					q.from(t, two4)
					l.WantSeen(lab.Far4, "", mark, two4)
					if c.rule != "" {
						wantPart(t, "rules", l.Rules("-4"), c.rule)
						wantPart(t, "what goes by default", l.Run("ip", "route", "get", lab.Far4), "dev wg0")
					}
				}
				check()
				q.reload()
				l.MustMH("sync")
				check()
				q.do(t, "down")
				noDrift(t, l)
				for _, family := range []string{"-4", "-6"} {
					wantNone(t, "rules of wg-quick", l.Rules(family), "not from all")
					wantNone(t, "rules of the tunnel's mark", l.Rules(family), "0xca6c")
				}
				wantPart(t, "rules", l.Rules("-4"), "32754: from all fwmark 0x2005 unreachable proto 77")
				l.WantSeen(lab.Far4, "", mark, two4)
				wantNone(t, "status", l.MustMH("status").Stdout, "(of a full tunnel)")
				if first == "ours first" {
					noSpoof(t, l)
				}
			})
		}
	}
}

// TestTunnelWgQuickUnderStrictFilter asks through the tunnel and beside it, and moves
// the uplink, where every way back is checked.
func TestTunnelWgQuickUnderStrictFilter(t *testing.T) {
	for name, c := range map[string]struct{ allowed, line string }{
		"full":         {"0.0.0.0/0", ""},
		"full, FwMark": {"0.0.0.0/0", "FwMark = 0x2005"},
		"split":        {"10.200.0.0/24", ""},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			strictFilter(l)
			l.Static()
			l.Interfaces(tunnelled)
			l.MustMH("sync")
			q := newQuick(t, l, 0, c.allowed)
			l.Echo(l.Far, "", "10.200.0.2")
			q.write(c.line)
			q.do(t, "up")
			check := func(addr string) {
				t.Helper()
				q.from(t, addr)
				if got := l.Ask(lab.Query{Network: "udp", Far: "10.200.0.2"}); got != "10.200.0.1" {
					t.Errorf("in the tunnel far saw %q", got)
				}
				l.WantSeen(lab.Far4, "", mark, addr)
				l.WantSeen(lab.Far4, one4, 0, one4)
			}
			check(two4)
			const next = "198.51.100.77"
			renumbered(t, l, next, two4)
			check(next)
			noDrift(t, l)
			q.do(t, "down")
			noDrift(t, l)
			noSpoof(t, l)
		})
	}
}

// TestTunnelMarkedSenderThroughWgQuick floods marked packets while wg-quick takes a
// full tunnel up and down. None leaves by the other uplink; with FwMark none of
// the tunnel's own does, either.
func TestTunnelMarkedSenderThroughWgQuick(t *testing.T) {
	for _, line := range []string{"", "FwMark = 0x2005"} {
		t.Run(line, func(t *testing.T) {
			l := newLab(t)
			l.Static()
			l.Interfaces(tunnelled)
			l.MustMH("sync")
			q := newQuick(t, l, 0, "0.0.0.0/0")
			q.write(line)
			sent(t, l.ISP1)
			l.ISP1.Script("nft add counter inet flood tunnel; nft add rule inet flood in iifname home udp dport 51820 counter name tunnel")
			stop := l.Flood(lab.Far4, mark)
			for range lab.Rounds(3) {
				q.do(t, "up")
				q.from(t, two4)
				q.reload()
				l.MustMH("sync")
				q.do(t, "down")
			}
			if n := stop(); n == 0 {
				t.Error("nothing was sent")
			}
			if n := sent(t, l.ISP1); n != 0 {
				t.Errorf("%d marked packets left by the other uplink", n)
			}
			own := packets.FindStringSubmatch(l.ISP1.Run("nft", "list", "counter", "inet", "flood", "tunnel"))[1]
			t.Logf("of the tunnel's own packets %s left by the other uplink", own)
			if line != "" && own != "0" {
				t.Errorf("with FwMark %s of the tunnel's own packets left by the other uplink", own)
			}
		})
	}
}

const twoTunnels = `
iface up1 inet dhcp
	multihomed-fwmark 0x2006
	multihomed-wireguard wg0
iface up2 inet dhcp
	multihomed-fwmark 0x2005
	multihomed-wireguard wg1
`

func TestTunnelTwoFullTunnels(t *testing.T) {
	l := newLab(t)
	l.Static()
	l.Interfaces(twoTunnels)
	l.MustMH("sync")
	before := l.Rules("-4")
	one, two := newQuick(t, l, 0, "0.0.0.0/0"), newQuick(t, l, 1, "0.0.0.0/0")
	for _, q := range []*quickTunnel{one, two} {
		q.write()
		q.do(t, "up")
	}
	wantEqual(t, "marks", one.mark()+" "+two.mark(), "0xca6c 0xca6d")
	one.from(t, one4)
	two.from(t, two4)
	noDrift(t, l)
	// A reload takes both marks off; each gets its own again.
	one.reload()
	two.reload()
	wantEqual(t, "marks after a reload", one.mark()+" "+two.mark(), "off off")
	l.MustMH("sync")
	wantEqual(t, "marks", one.mark()+" "+two.mark(), "0xca6c 0xca6d")
	one.from(t, one4)
	two.from(t, two4)
	status := strings.Join(strings.Fields(l.MustMH("status").Stdout), " ")
	wantPart(t, "status", status, "0xca6c up1 stand routed routed (of a full tunnel)")
	wantPart(t, "status", status, "0xca6d up2 stand routed routed (of a full tunnel)")
	one.do(t, "down")
	two.from(t, two4)
	noDrift(t, l)
	two.do(t, "down")
	wantEqual(t, "rules", sortLines(l.Rules("-4")), sortLines(before))
	noSpoof(t, l)
}

// TestTunnelRulesOfOthersKind has the rules that NetworkManager and networkd make:
// preferences and tables of their own, here with a mask.
func TestTunnelRulesOfOthersKind(t *testing.T) {
	for name, rule := range map[string]string{
		"plain":   "not fwmark 0xcb87",
		"masked":  "not fwmark 0xcb87/0xffff",
		"static4": "not fwmark 0xcb87 proto static",
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			e := session(t, l)
			e.host.Set("fwmark=52103", "public_key="+e.host.Get("public_key"), "allowed_ip=0.0.0.0/0")
			l.Script("ip route add default dev wg0 table 52104; ip rule add pref 30000 " + rule + " lookup 52104")
			lab.Until(t, "it has its mark", func() bool { return e.host.Get("fwmark") == "52103" })
			l.MustMH("sync")
			noDrift(t, l)
			wantEqual(t, "mark", e.host.Get("fwmark"), "52103")
			wantPart(t, "rules", l.Rules("-4"), "29997: from all fwmark 0xcb87")
			l.MustMH("refresh")
			lab.Until(t, "far sees the uplink", func() bool { return e.at() == two4 })
			// Not by us: the mark stays while the block goes.
			l.Interfaces(pinned)
			l.MustMH("sync")
			wantEqual(t, "mark", e.host.Get("fwmark"), "52103")
			wantNone(t, "rules", l.Rules("-4"), "fwmark 0xcb87 unreachable")
			l.Interfaces(tunnelled)
			l.MustMH("sync")
			l.MustMH("down")
			wantEqual(t, "mark", e.host.Get("fwmark"), "52103")
			wantNone(t, "rules", l.Rules("-4"), "proto 77")
		})
	}
}

// TestTunnelDeviceMoves has a device go from one uplink to the other, under traffic,
// and out of the configuration.
func TestTunnelDeviceMoves(t *testing.T) {
	l := newLab(t)
	l.Static()
	of := func(up1, up2 string) string {
		text := "iface up1 inet dhcp\n\tmultihomed-fwmark 0x2006\n"
		if up1 != "" {
			text += "\tmultihomed-wireguard " + up1 + "\n"
		}
		text += "iface up2 inet dhcp\n\tmultihomed-fwmark 0x2005\n"
		if up2 != "" {
			text += "\tmultihomed-wireguard " + up2 + "\n"
		}
		return text
	}
	l.Interfaces(of("", "wg0 wg1"))
	one, two := newQuick(t, l, 0, "10.200.0.0/24"), newQuick(t, l, 1, "10.201.0.0/24")
	for _, q := range []*quickTunnel{one, two} {
		q.write()
		q.do(t, "up")
		q.from(t, two4)
	}
	l.Interfaces(of("wg0", "wg1"))
	l.MustMH("sync")
	wantEqual(t, "marks", one.mark()+" "+two.mark(), "0x2006 0x2005")
	one.from(t, one4)
	two.from(t, two4)
	// The uplink that it moves to has no address: it is refused there.
	l.Interfaces(of("", "wg0 wg1"))
	l.Script("ip addr flush dev up2 scope global")
	l.MustMH("sync")
	wantEqual(t, "marks", one.mark()+" "+two.mark(), "0x2005 0x2005")
	received := one.received(t)
	for range 20 {
		one.send()
	}
	if n := one.received(t) - received; n != 0 {
		t.Errorf("far got %d bytes by no uplink", n)
	}
	l.Script("ip addr add 198.51.100.10/24 dev up2; ip route replace default via 198.51.100.1 dev up2 metric 2")
	l.MustMH("sync")
	one.from(t, two4)
	l.Interfaces(of("", "wg1"))
	l.MustMH("sync")
	wantEqual(t, "marks", one.mark()+" "+two.mark(), "0x2005 0x2005")
	wantPart(t, "status", l.MustMH("status").Stdout, "(not listed)")
	noDrift(t, l)
	noSpoof(t, l)
}
