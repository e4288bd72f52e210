package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"wg-multihome/test/lab"
)

// TestClientThatEndsKeepsItsLease: ended by a signal, dhclient and udhcpc say
// nothing, and dhcpcd with `persistent` that the lease is not lost. The address
// stays, and so does what hangs on it.
func TestClientThatEndsKeepsItsLease(t *testing.T) {
	for _, client := range realClients {
		if client.release != "" {
			continue
		}
		t.Run(client.name, func(t *testing.T) {
			c := newClientCase(t, "", client.start)
			c.wantLease("first lease", "198.51.100.20", "198.51.100.1")
			c.client.End()
			wantPart(t, "addresses", c.Run("ip", "addr", "show", "dev", "up2"), "198.51.100.20/24")
			c.wantLease("after its end", "198.51.100.20", "198.51.100.1")
		})
	}
}

// TestDhcpcdLosesMainsRoutes: as long as an uplink's renewal is not answered, dhcpcd
// before 10.3.1 leaves out its default and its connected route when another
// uplink's is, and tells nobody. What is ours needs neither.
func TestDhcpcdLosesMainsRoutes(t *testing.T) {
	for _, client := range realClients {
		if client.name != "dhcpcd" {
			continue
		}
		t.Run(strings.TrimSpace(client.name+" "+client.release), func(t *testing.T) {
			c := newClientCase(t, client.release, client.start)
			c.wantLease("first lease", "198.51.100.20", "198.51.100.1")
			c.two.Does(lab.Script{Silent: true})
			c.one.Does(lab.Script{Address: "192.0.2.20", Router: "192.0.2.1", Seconds: leaseTime, Routes: []string{"0.0.0.0/0", "192.0.2.1", "10.98.0.0/16", "192.0.2.1"}})
			c.client.Renew("")
			until(t, "main loses the routes of the uplink that is not answered", c.story, func() bool { return c.Run("ip", "route", "show", "dev", "up2") == "" })
			c.MustMH("sync")
			c.wantLease("without main's routes", "198.51.100.20", "198.51.100.1")
			// Nor where the route has to be made anew.
			c.Run("ip", "route", "flush", "table", tableOf("198.51.100.20"))
			c.MustMH("sync")
			wantPart(t, "the default", c.Default(tableOf("198.51.100.20")), "onlink")
			c.wantLease("with a new route", "198.51.100.20", "198.51.100.1")
			noSpoof(t, c.Lab)
		})
	}
}

// TestDhcpcdWithoutALease: it gives the link an address of 169.254/16 then, and
// main a default from there. A pinned packet takes neither.
func TestDhcpcdWithoutALease(t *testing.T) {
	l := newLab(t)
	l.Script("ip addr add 192.0.2.10/24 dev up1; ip route add default via 192.0.2.1 dev up1 metric 1")
	l.Interfaces(pinned)
	l.MustMH("sync")
	l.RealDhcpcd("timeout 1\n", "up2")
	said := func() string { return l.Read("/run/events") + l.Run("ip", "route") }
	until(t, "the address of IPv4LL", said, func() bool { return strings.Contains(l.Run("ip", "route", "show", "default"), "src 169.254.") })
	until(t, "its event", said, func() bool { return strings.Contains(l.Read("/run/events"), "up2 IPV4LL ipv4ll true false") })
	l.MustMH("sync")
	wantNone(t, "rules", l.Rules("-4"), "from 169.254.")
	if n := l.Send(lab.Sender{To: lab.Far4, Mark: mark}, 20); n != 0 {
		t.Errorf("%d of 20 pinned datagrams left", n)
	}
	wantEqual(t, "record", l.Read(record), "")
	l.WantSeen(lab.Far4, "192.0.2.10", 0, "192.0.2.10")
	noDrift(t, l)
	noSpoof(t, l)
}

// TestWatchHearsAddressesThatComeBack: when an interface's last IPv4 address goes,
// the kernel empties its tables, and tells of the address alone (NAK, carrier,
// `networkctl reconfigure`: it is back after 28 ms to 5 s).
func TestWatchHearsAddressesThatComeBack(t *testing.T) {
	l, _ := watched(t)
	right(t, l, "the start")
	sent(t, l.ISP1)
	stream := l.Stream(lab.Sender{To: lab.Far4, Mark: mark, Pause: time.Millisecond})
	for range 10 {
		l.Script("ip addr del 198.51.100.10/24 dev up2; ip addr add 198.51.100.10/24 dev up2; ip route add default via 198.51.100.1 dev up2 metric 2")
		right(t, l, "an address that was away")
		wantPart(t, "the table", l.Default("3325256714"), "via 198.51.100.1 dev up2")
	}
	l.Run("ip", "addr", "del", "198.51.100.10/24", "dev", "up2")
	right(t, l, "an address that goes")
	for _, family := range []string{"-4", "-6"} {
		wantPart(t, "guards", l.Rules(family), "fwmark 0x2005 unreachable")
	}
	stream()
	if leaked := sent(t, l.ISP1); leaked != 0 {
		t.Errorf("%d marked packets left by the other uplink", leaked)
	}
	noSpoof(t, l)
}

// radvd is its configuration: how long it is a default router.
const radvd = `interface home {
	AdvSendAdvert on; MinRtrAdvInterval 3; MaxRtrAdvInterval 4; AdvDefaultLifetime LIFETIME;
	prefix 2001:db8:2::/64 { AdvValidLifetime 600; AdvPreferredLifetime 300; };
};
`

// TestWatchFollowsRouterAdvertisements: nobody else tells of them. A router that
// says that it is none any more goes from our tables as from main, and the
// lifetimes of an advertisement that says what the last one said are no reason
// to do anything.
func TestWatchFollowsRouterAdvertisements(t *testing.T) {
	l := newLab(t)
	l.Script(`ip addr add 2001:db8:1::10/64 dev up1 nodad; ip -6 route add default via 2001:db8:1::1 dev up1 metric 1
for s in accept_ra=1 autoconf=1 forwarding=0; do sysctl -qw net.ipv6.conf.up2.$s; done`)
	l.Script(`nft -f - <<X
table inet heard {
	counter advertisements {}
	chain in {
		type filter hook prerouting priority -300
		iifname up2 icmpv6 type nd-router-advert counter name advertisements
	}
}
X`)
	advertise := func(lifetime string) (stop func()) {
		file := filepath.Join(t.TempDir(), "radvd.conf")
		fatal(t, os.WriteFile(file, []byte(strings.ReplaceAll(radvd, "LIFETIME", lifetime)), 0o600))
		return l.ISP2.Start(nil, "radvd", "--nodaemon", "--logmethod", "stderr", "--config", file, "--pidfile", file+".pid")
	}
	stop := advertise("9000")
	config := "/run/config.toml"
	l.Write(config, "[uplink.up2]\nfwmark = 0x2005\n", 0o644)
	w := l.Watch("--config", config)
	said := func() string {
		return w.Said() + l.Run("ip", "-6", "addr", "show", "dev", "up2") + l.Run("ip", "-6", "route")
	}
	seen := func() string { return l.Ask(lab.Query{Network: "udp", Far: lab.Far6, Mark: mark}) }
	until(t, "an address and a router, by advertisements", said, func() bool { return strings.HasPrefix(seen(), "2001:db8:2:") })
	settled := func() bool { return l.MH("plan", "--exit-code", "--config", config).Code == 0 }
	until(t, "all is as is wanted", said, settled)

	before := w.Said()
	heard := func() int {
		return number(t, packets, l.Run("nft", "list", "counter", "inet", "heard", "advertisements"))
	}
	first := heard()
	until(t, "three more advertisements", said, func() bool { return heard() >= first+3 })
	wantEqual(t, "what watch did at advertisements that say nothing new", strings.TrimPrefix(w.Said(), before), "")

	stop()
	advertise("0")
	until(t, "the router goes from main", said, func() bool { return l.Run("ip", "-6", "route", "show", "default", "dev", "up2") == "" })
	until(t, "all is as is wanted", said, settled)
	wantNone(t, "our tables", l.Run("ip", "-6", "route", "show", "table", "all"), "default via fe80::")
	l.WantRefused(lab.Far6, "", mark)
	l.WantSeen(lab.Far6, "", 0, "2001:db8:1::10")
	noSpoof(t, l)
}

// TestDhclientOfIPv6 has two real clients on one uplink, one for each family:
// neither ends the other's lease. The hook of the second one comes while its
// address is tentative.
func TestDhclientOfIPv6(t *testing.T) {
	l := leased(t)
	l.Script("for s in accept_ra=1 autoconf=0 forwarding=0 accept_dad=1; do sysctl -qw net.ipv6.conf.up2.$s; done")
	l.Serve(l.ISP2, "198.51.100.20", "198.51.100.20", "--enable-ra", "--ra-param=home,5,1800", "--dhcp-range=2001:db8:2::100,2001:db8:2::100,64,2m")
	l.Dhclient("up2")
	until(t, "a router", func() string { return l.Run("ip", "-6", "route") }, func() bool { return l.Run("ip", "-6", "route", "show", "default", "dev", "up2") != "" })
	before := l.Read(record)
	six := func(mode string) {
		t.Helper()
		l.Run("dhclient", "-6", mode, "-pf", "/run/dhclient6.pid", "-lf", "/var/lib/dhcp/up2.leases6", "up2")
	}
	t.Cleanup(func() { l.Try(nil, "sh", "-c", "read pid </run/dhclient6.pid && kill $pid") })
	six("-1")
	until(t, "the pair of the leased address", func() string { return l.Read("/run/hook.log") + l.Rules("-6") }, func() bool { return strings.Contains(l.Rules("-6"), "from 2001:db8:2::100 lookup ") })
	l.WantSeen(lab.Far6, "", mark, "2001:db8:2::100")
	l.WantSeen(lab.Far4, "", mark, "198.51.100.20")
	six("-r")
	until(t, "the pair goes", func() string { return l.Read("/run/hook.log") + l.Rules("-6") }, func() bool { return !strings.Contains(l.Rules("-6"), "from 2001:db8:2::100 ") })
	l.WantRefused(lab.Far6, "", mark)
	wantEqual(t, "the record of IPv4", l.Read(record), before)
	l.WantSeen(lab.Far4, "", mark, "198.51.100.20")
	noDrift(t, l)
	noSpoof(t, l)
}
