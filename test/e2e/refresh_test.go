package e2e

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"
	"time"

	"wg-multihome/test/lab"
)

// tunnelled is a configuration that pins wg0 to up2.
const tunnelled = pinned + "\tmultihomed-wireguard wg0\n"

// quiet is the keepalive of tunnels here, in seconds. It is longer than the
// lab's patience: what far learns, it does not learn from that.
const quiet = 25

// ends are the two ends of a tunnel: the host's wg0, by up2, and far's.
type ends struct{ host, far *lab.Tunnel }

// session makes a tunnel that is pinned to up2, where everything is static, and
// waits until far has heard of it from there.
func session(t *testing.T, l *lab.Lab) ends {
	t.Helper()
	l.Static()
	l.Interfaces(tunnelled)
	return connect(t, l)
}

func connect(t *testing.T, l *lab.Lab) ends {
	t.Helper()
	hostConfig, farConfig := peers(t)
	hostConfig = strings.Replace(hostConfig, "persistent_keepalive_interval=1", fmt.Sprintf("persistent_keepalive_interval=%d", quiet), 1)
	e := ends{far: l.Tunnel(l.Far, "wg0", farConfig)}
	e.host = l.Tunnel(l.Namespace, "wg0", "fwmark=8197\n"+hostConfig)
	l.Script("ip addr add 10.200.0.1/24 dev wg0; ip link set wg0 up")
	l.Far.Script("ip addr add 10.200.0.2/24 dev wg0; ip link set wg0 up")
	l.MustMH("sync")
	lab.Until(t, "far has heard of the host", func() bool { return e.at() == two4 })
	lab.Until(t, "there is a session", func() bool { return e.host.Get("last_handshake_time_sec") != "0" })
	// The kernel's WireGuard answers from where it was spoken to last.
	before := e.host.Get("rx_bytes")
	l.Far.Run("bash", "-c", "echo >/dev/udp/10.200.0.1/9")
	lab.Until(t, "the host hears from far", func() bool { return e.host.Get("rx_bytes") != before })
	return e
}

// at is the address where far believes the host to be.
func (e ends) at() string { return addrOf(e.far.Get("endpoint")) }

func addrOf(endpoint string) string {
	i := strings.LastIndexByte(endpoint, ':')
	return strings.Trim(endpoint[:max(i, 0)], "[]")
}

// soon is what "at once" means: a round trip, and what a busy machine takes for
// it. Without a kick it would be the keepalive's time.
const soon = time.Second + lab.Slack

// learns waits until far believes the host to be at addr, and fails the test if
// that is not soon.
func (e ends) learns(t *testing.T, addr string, since time.Time) {
	t.Helper()
	lab.Until(t, "far learns that the host is at "+addr, func() bool { return e.at() == addr })
	took := time.Since(since)
	t.Logf("far knew %s after %s", addr, took.Round(time.Millisecond))
	if took > soon {
		t.Errorf("far knew %s after %s only", addr, took)
	}
}

// bound is the environment of an event that gives up2 an address.
func bound(reason, addr, router string) []string {
	return []string{"reason=" + reason, "interface=up2", "new_ip_address=" + addr, "new_subnet_mask=255.255.255.0", "new_routers=" + router}
}

// noneDue fails the test if a device is still to be refreshed.
func noneDue(t *testing.T, l *lab.Lab) {
	t.Helper()
	wantEqual(t, "due", l.Script("ls /run/wg-multihome/due 2>/dev/null || :"), "")
}

func TestTunnelFarLearnsTheNewAddress(t *testing.T) {
	const next = "198.51.100.77"
	for name, c := range map[string]struct {
		change string
		run    func(*lab.Lab) lab.Result
		want   string
	}{
		"by a lease": {
			"ip addr add 198.51.100.77/24 dev up2; ip addr del 198.51.100.10/24 dev up2; ip route replace default via 198.51.100.1 dev up2 metric 2",
			func(l *lab.Lab) lab.Result { return l.Event(bound("RENEW", next, "198.51.100.1")...) }, next,
		},
		"beside the old one": {
			"ip addr add 198.51.100.77/24 dev up2",
			func(l *lab.Lab) lab.Result { return l.Event(bound("BOUND", next, "198.51.100.1")...) }, next,
		},
		"by sync": {
			"ip addr add 198.51.100.77/24 dev up2; ip addr del 198.51.100.10/24 dev up2; ip route replace default via 198.51.100.1 dev up2 metric 2",
			func(l *lab.Lab) lab.Result { return l.MH("sync") }, next,
		},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			e := session(t, l)
			wantCode(t, l.Event(bound("BOUND", two4, "198.51.100.1")...), 0)
			l.Script(c.change)
			since := time.Now()
			r := c.run(l)
			wantCode(t, r, 0)
			e.learns(t, c.want, since)
			if n := strings.Count(r.Stderr, "persistent-keepalive 0 25"); n != 1 {
				t.Errorf("refreshed %d times:\n%s", n, r.Stderr)
			}
			wantNone(t, "what is said", l.MustMH("sync").Stderr, "= wg")
			wantEqual(t, "keepalive", e.host.Get("persistent_keepalive_interval"), "25")
			noneDue(t, l)
			noDrift(t, l)
			noSpoof(t, l)
		})
	}
}

// TestTunnelFarLearnsFromARealLease renumbers the uplink by a real DHCP server.
func TestTunnelFarLearnsFromARealLease(t *testing.T) {
	l := leased(t)
	l.Interfaces(tunnelled)
	stop := l.Serve(l.ISP2, two4, two4)
	l.Dhclient("up2")
	e := connect(t, l)
	l.Stop("up2")
	stop()
	l.Serve(l.ISP2, "198.51.100.40", "198.51.100.40")
	l.Dhclient("up2") // with -1 it comes back once the hook has run
	e.learns(t, "198.51.100.40", time.Now())
	noSpoof(t, l)
}

// A refresh without a session: WireGuard tries again after 5 s at most.
func TestTunnelRefreshWithoutASession(t *testing.T) {
	l := newLab(t)
	l.Static()
	l.Interfaces(tunnelled)
	hostConfig, farConfig := peers(t)
	hostConfig = strings.Replace(hostConfig, "persistent_keepalive_interval=1", "persistent_keepalive_interval=25", 1)
	l.ISP2.Script("nft add table inet gone; nft add chain inet gone in '{ type filter hook prerouting priority -300; }'; nft add rule inet gone in iifname home udp dport 51820 drop")
	e := ends{far: l.Tunnel(l.Far, "wg0", farConfig), host: l.Tunnel(l.Namespace, "wg0", hostConfig)}
	l.Script("ip addr add 10.200.0.1/24 dev wg0; ip link set wg0 up")
	l.MustMH("sync")
	l.Script("ip addr add 198.51.100.77/24 dev up2; ip addr del 198.51.100.10/24 dev up2; ip route replace default via 198.51.100.1 dev up2 metric 2")
	l.ISP2.Run("nft", "delete", "table", "inet", "gone")
	since := time.Now()
	wantCode(t, l.Event(bound("RENEW", "198.51.100.77", "198.51.100.1")...), 0)
	lab.Until(t, "far learns", func() bool { return e.at() == "198.51.100.77" })
	if took := time.Since(since); took > 5*time.Second+lab.Slack {
		t.Errorf("far knew after %s", took)
	}
}

// TestTunnelOtherTriggers: a mark that was set, a look-up that came, a gateway that
// is new.
func TestTunnelOtherTriggers(t *testing.T) {
	l := newLab(t)
	e := session(t, l)
	kicked := "peer " // and eight characters of its key
	for name, c := range map[string]struct{ do, say string }{
		"the mark was taken off":   {"ip rule show >/dev/null", "= wg wg0 fwmark 0x2005"},
		"the look-up was deleted":  {"ip rule del fwmark 0x2005 lookup 3325256714", "+ rule 4 32753 fwmark 0x2005 lookup"},
		"the route was deleted":    {"ip route flush table 3325256714", "+ route 4 3325256714 default"},
		"the gateway is a new one": {"ip route replace default via 198.51.100.2 dev up2 metric 2", "default via 198.51.100.2"},
	} {
		if name == "the mark was taken off" {
			e.host.Set("fwmark=0")
			lab.Until(t, "it has no mark", func() bool { return e.host.Get("fwmark") == "" })
		}
		l.Script(c.do)
		r := l.MustMH("sync")
		wantPart(t, name, r.Stderr, c.say)
		if n := strings.Count(r.Stderr, kicked); n != 1 {
			t.Errorf("%s: refreshed %d times:\n%s", name, n, r.Stderr)
		}
		l.Script("ip route replace default via 198.51.100.1 dev up2 metric 2")
		l.MustMH("sync")
		noneDue(t, l)
	}
	// A BOUND is told, and refreshed for, even when nothing else is new.
	for range 2 {
		r := l.Event(bound("BOUND", two4, "198.51.100.1")...)
		wantCode(t, r, 0)
		if n := strings.Count(r.Stderr, kicked); n != 1 {
			t.Errorf("a BOUND: refreshed %d times:\n%s", n, r.Stderr)
		}
	}
}

// TestTunnelKilledRefreshIsDoneAgain kills runs anywhere: the next one that lives has
// far know the address, whatever was told or set before.
func TestTunnelKilledRefreshIsDoneAgain(t *testing.T) {
	l := newLab(t)
	e := session(t, l)
	addrs := []string{"198.51.100.77", two4}
	killed := 0
	rounds := lab.Rounds(40)
	for round := range rounds {
		next, last := addrs[round%2], addrs[(round+1)%2]
		l.Script(fmt.Sprintf("ip addr add %s/24 dev up2; ip addr del %s/24 dev up2; ip route replace default via 198.51.100.1 dev up2 metric 2", next, last))
		if runKilled(t, l, time.Duration(40*lab.Slowness*round/rounds)*time.Millisecond, "sync") {
			killed++
		}
		since := time.Now()
		l.MustMH("sync")
		e.learns(t, next, since)
		wantEqual(t, "keepalive", e.host.Get("persistent_keepalive_interval"), "25")
		noneDue(t, l)
	}
	t.Logf("%d runs killed", killed)
	if killed == 0 {
		t.Error("nothing was proved")
	}
}

// TestTunnelDeviceStartsAnew has the device go and come, as a restart does.
func TestTunnelDeviceStartsAnew(t *testing.T) {
	l := newLab(t)
	e := session(t, l)
	e.host.Stop()
	lab.Until(t, "the interface is gone", func() bool { return l.Try(nil, "ip", "link", "show", "wg0").Code != 0 })
	l.MustMH("sync")
	hostConfig, farConfig := peers(t)
	e.far.Stop()
	e.far = l.Tunnel(l.Far, "wg0", farConfig)
	e.host = l.Tunnel(l.Namespace, "wg0", hostConfig) // without its mark
	l.Script("ip link set wg0 up")
	since := time.Now()
	l.MustMH("sync")
	e.learns(t, two4, since)
	noneDue(t, l)
}

// TestTunnelHundredPeers has each of them kicked, and none lose its keepalive, also
// where the run is killed.
func TestTunnelHundredPeers(t *testing.T) {
	l := newLab(t)
	e := session(t, l)
	var more []string
	for i := range 100 {
		k := newKey(t).PublicKey()
		more = append(more, fmt.Sprintf("public_key=%x", k[:]), fmt.Sprintf("endpoint=%s:%d", lab.Far4, 6000+i), "persistent_keepalive_interval=25")
	}
	e.host.Set(more...)
	lab.Until(t, "the peers are there", func() bool { return keepalives(l) == 101 })
	for i := range 8 {
		ctx, cancel := context.WithTimeout(context.Background(), time.Duration(4+3*i)*time.Millisecond)
		cmd := l.Command(ctx, nil, l.Binary, "refresh")
		_ = cmd.Run()
		cancel()
		if n := keepalives(l); n != 101 {
			t.Fatalf("%d peers have their keepalive", n)
		}
	}
	r := l.MustMH("refresh", "-v")
	if n := strings.Count(r.Stderr, " persistent-keepalive 0 25"); n != 101 {
		t.Errorf("%d peers were kicked:\n%s", n, r.Stderr)
	}
}

// keepalives counts the peers of wg0 that have theirs.
func keepalives(l *lab.Lab) int {
	return strings.Count(l.Run("wg", "show", "wg0", "persistent-keepalive"), "\t25\n")
}

func TestTunnelRefreshCommand(t *testing.T) {
	l := newLab(t)
	session(t, l)
	r := l.MustMH("refresh", "wg0")
	wantPart(t, "what is said", r.Stderr, "= wg wg0 fwmark 0x2005\n")
	wantPart(t, "what is said", r.Stderr, "persistent-keepalive 0 25\n")
	// A fresh handshake is left alone.
	wantNone(t, "what is said", l.MustMH("refresh", "--stale").Stderr, "= wg")
	oneLine(t, l.MH("refresh", "wg9"), `"wg9" (did you mean "wg0"?)`)
	l.Interfaces(tunnelled + "\tmultihomed-rotate-port wg0\n")
	port := l.Run("wg", "show", "wg0", "listen-port")
	wantPart(t, "what is said", l.MustMH("refresh").Stderr, "= wg wg0 listen-port 0\n")
	if now := l.Run("wg", "show", "wg0", "listen-port"); now == port {
		t.Errorf("the port stays %s", now)
	}
	l.Interfaces(pinned + "\tmultihomed-wireguard wg0 wg7\n")
	r = l.MH("refresh", "wg7")
	wantCode(t, r, 1)
	wantPart(t, "what is said", r.Stderr, `"wg7" is not there`)
	wantCode(t, l.MH("refresh"), 0)
}

// TestTunnelStale has a peer that far never answers: a timer's `refresh --stale`
// touches it alone.
func TestTunnelStale(t *testing.T) {
	l := newLab(t)
	e := session(t, l)
	k := newKey(t).PublicKey()
	e.host.Set(fmt.Sprintf("public_key=%x", k[:]), "endpoint="+lab.Far4+":6000", "persistent_keepalive_interval=25")
	lab.Until(t, "the peer is there", func() bool { return keepalives(l) == 2 })
	r := l.MustMH("refresh", "--stale")
	wantNone(t, "what is said", r.Stderr, "fwmark")
	wantPart(t, "what is said", r.Stderr, "peer "+k.String()[:8]+" persistent-keepalive 0 25")
	if n := strings.Count(r.Stderr, "= wg"); n != 1 {
		t.Errorf("%d steps:\n%s", n, r.Stderr)
	}
}

// TestTunnelPortRotation has a NAT that keeps a dead mapping: what comes from the old
// port does not come through.
func TestTunnelPortRotation(t *testing.T) {
	for _, rotate := range []bool{false, true} {
		t.Run(fmt.Sprint(rotate), func(t *testing.T) {
			l := newLab(t)
			e := session(t, l)
			if rotate {
				l.Interfaces(tunnelled + "\tmultihomed-rotate-port wg0\n")
			}
			port := strings.TrimSpace(l.Run("wg", "show", "wg0", "listen-port"))
			l.ISP2.Script("nft add table inet nat; nft add chain inet nat in '{ type filter hook prerouting priority -300; }'; nft add rule inet nat in iifname home udp sport " + port + " drop")
			l.Script("ip addr add 198.51.100.77/24 dev up2; ip addr del 198.51.100.10/24 dev up2; ip route replace default via 198.51.100.1 dev up2 metric 2")
			since := time.Now()
			r := l.Event(bound("RENEW", "198.51.100.77", "198.51.100.1")...)
			wantCode(t, r, 0)
			if rotate {
				e.learns(t, "198.51.100.77", since)
				return
			}
			wantNone(t, "what is said", r.Stderr, "listen-port")
			if now := strings.TrimSpace(l.Run("wg", "show", "wg0", "listen-port")); now != port {
				t.Errorf("the port is %s, was %s", now, port)
			}
		})
	}
}

// file writes the host's /etc/wireguard/wg0.conf, with lines about the peer.
func (e ends) file(t *testing.T, l *lab.Lab, peer string) {
	t.Helper()
	key, err := hex.DecodeString(e.host.Get("public_key"))
	if err != nil {
		t.Fatal(err)
	}
	l.Write("/etc/wireguard/wg0.conf", "[Interface]\nListenPort = 51820\n[Peer]\nPublicKey = "+base64.StdEncoding.EncodeToString(key)+"\n"+peer, 0o600)
}
