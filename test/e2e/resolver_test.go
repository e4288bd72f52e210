package e2e

import (
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
	"time"

	"wg-multihome/test/lab"
)

// resolver has the host ask a name server at the first ISP, which is asked to
// answer in this way (dnsmasq's options).
func resolver(t *testing.T, l *lab.Lab, options ...string) {
	t.Helper()
	args := []string{"dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--user=root", "--pid-file=",
		"--local=/example/", "--listen-address=192.0.2.1", "--bind-interfaces", "--except-interface=lo", "--log-queries", "--log-facility=-"}
	l.ISP1.Start(nil, append(args, options...)...)
	lab.Until(t, "the name server listens", func() bool { return strings.Contains(l.ISP1.Run("ss", "-Hlnu"), "192.0.2.1:53 ") })
	l.Write("/run/resolv.conf", "nameserver 192.0.2.1\noptions timeout:1 attempts:4\n", 0o644)
}

// unheard has the first ISP drop the host's questions, all or those of a kind
// (nft's words); what is dropped is counted.
func unheard(l *lab.Lab, which string) {
	l.ISP1.Script("nft add table inet dns; nft add chain inet dns in '{ type filter hook prerouting priority -300; }'; nft add rule inet dns in iifname home udp dport 53 " + which + " counter drop")
}

// heard takes that back.
func heard(l *lab.Lab) { l.ISP1.Run("nft", "delete", "table", "inet", "dns") }

// asked waits until a question was dropped.
func asked(t *testing.T, l *lab.Lab) {
	t.Helper()
	lab.Until(t, "a name is asked for", func() bool {
		return !strings.Contains(l.ISP1.Run("nft", "list", "chain", "inet", "dns", "in"), "packets 0 ")
	})
}

// TestTunnelOneDeadName has one peer's name never answered: another peer's moves all
// the same, at once.
func TestTunnelOneDeadName(t *testing.T) {
	l, e := named(t, "vpn.example:51820")
	resolver(t, l, "--address=/vpn.example/"+other)
	unheard(l, "@th,160,32 0x04646561") // the first label of "dead.example"
	k := newKey(t).PublicKey()
	e.host.Set(fmt.Sprintf("public_key=%x", k[:]), "endpoint="+lab.Far4+":6000", "persistent_keepalive_interval=25")
	lab.Until(t, "the peer is there", func() bool { return keepalives(l) == 2 })
	l.Write("/etc/wireguard/wg0.conf", l.Read("/etc/wireguard/wg0.conf")+"[Peer]\nPublicKey = "+k.String()+"\nEndpoint = dead.example:6000\n", 0o600)
	since := time.Now()
	ended := make(chan lab.Result)
	go func() { ended <- l.MH("refresh") }()
	lab.Until(t, "the peer whose name has moved is there", func() bool {
		return strings.Contains(l.Run("wg", "show", "wg0", "endpoints"), other+":51820")
	})
	if took := time.Since(since); took > soon {
		t.Errorf("it took %s", took)
	}
	r := <-ended
	wantCode(t, r, 0)
	wantPart(t, "what is said", r.Stderr, `"dead.example" was not resolved`)
	asked(t, l)
	noneDue(t, l)
}

// TestTunnelOneFamilyUnanswered has the answers of one family lost: what is known of
// the other one is no reason to leave an endpoint of the first.
func TestTunnelOneFamilyUnanswered(t *testing.T) {
	const aQuestion, aaaaQuestion = "0x0001", "0x001c"
	for name, c := range map[string]struct{ at, lost, want string }{
		"its own":   {lab.Far4 + ":51820", aQuestion, lab.Far4 + ":51820"},
		"the other": {lab.Far4 + ":51820", aaaaQuestion, other + ":51820"},
	} {
		t.Run(name, func(t *testing.T) {
			l, e := named(t, "vpn.example:51820")
			resolver(t, l, "--address=/vpn.example/"+other, "--address=/vpn.example/"+lab.Far6)
			// The question's type: behind 8 bytes of UDP, 12 of DNS and the name's 13.
			unheard(l, "@th,264,16 "+c.lost)
			r := l.MustMH("refresh")
			asked(t, l)
			wantEqual(t, "endpoint", e.host.Get("endpoint"), c.want)
			if c.want == c.at {
				wantPart(t, "what is said", r.Stderr, `"vpn.example" was not resolved`)
			}
		})
	}
}

// TestTunnelChangedWhileANameIsLookedUp has wg(8) at work on the peer meanwhile: one
// that was removed is not revived, and what was set is not set back.
func TestTunnelChangedWhileANameIsLookedUp(t *testing.T) {
	for name, c := range map[string]struct{ do, want string }{
		"removed":               {"remove", ""},
		"no keepalive any more": {"persistent-keepalive 0", "off"},
		"another keepalive":     {"persistent-keepalive 7", "7"},
	} {
		t.Run(name, func(t *testing.T) {
			l, e := named(t, "vpn.example:51820")
			resolver(t, l, "--address=/vpn.example/"+other)
			key := strings.TrimSpace(l.Run("wg", "show", "wg0", "peers"))
			unheard(l, "")
			ended := make(chan lab.Result)
			go func() { ended <- l.MH("refresh") }()
			asked(t, l)
			l.Script("wg set wg0 peer '" + key + "' " + c.do)
			heard(l)
			r := <-ended
			wantCode(t, r, 0)
			_, keepalive, _ := strings.Cut(strings.TrimSpace(l.Run("wg", "show", "wg0", "persistent-keepalive")), "\t")
			wantEqual(t, "keepalive of the peer", keepalive, c.want)
			if c.want == "" {
				wantEqual(t, "peers", l.Run("wg", "show", "wg0", "peers"), "")
			} else {
				wantEqual(t, "endpoint", e.host.Get("endpoint"), other+":51820")
			}
			noneDue(t, l)
		})
	}
}

// TestUserspaceManyDevicesAndNothingAnswers has hundreds of devices and peers, names that
// nobody answers for, a device that is silent, and one that falls silent when it
// is to be changed.
func TestUserspaceManyDevicesAndNothingAnswers(t *testing.T) {
	l := newLab(t)
	l.Static()
	var names []string
	for i := range 100 {
		names = append(names, fmt.Sprintf("wg%d", i))
	}
	l.Interfaces(strings.Replace(tunnelled, "wg0", strings.Join(names, " "), 1))
	all := devices(t, l, 3, names...)
	all[0].peers = 200
	l.MustMH("sync")
	l.Write("/run/resolv.conf", "nameserver 192.0.2.250\n", 0o644)
	l.Script("ip route add 192.0.2.250 dev up1; ip neigh add 192.0.2.250 lladdr 02:00:00:00:00:99 dev up1")
	for _, d := range all {
		text := "[Interface]\n"
		for i := range d.peers {
			key := d.key(i)
			text += fmt.Sprintf("[Peer]\nPublicKey = %s\nEndpoint = %s-%d.example:51820\n", base64.StdEncoding.EncodeToString(key[:]), d.name, i)
		}
		l.Write("/etc/wireguard/"+d.name+".conf", text, 0o600)
	}
	all[7].silent.Store(true)
	all[9].unset.Store(true)
	kicks := func() (n int64) {
		for _, d := range all {
			n += d.kicks.Load()
		}
		return n
	}
	for what, run := range map[string]func() lab.Result{
		"refresh": func() lab.Result { return l.MH("refresh") },
		"a BOUND": func() lab.Result { return l.Event(bound("BOUND", two4, "198.51.100.1")...) },
	} {
		before, since := kicks(), time.Now()
		r := run()
		took := time.Since(since)
		t.Logf("%s took %s", what, took)
		if took > 5*time.Second+lab.Slack {
			t.Errorf("%s took %s", what, took)
		}
		wantCode(t, r, 1)
		wantPart(t, "what is said", r.Stderr, `WireGuard device "wg7": no answer`)
		wantPart(t, "what is said", r.Stderr, `"wg0-0.example" was not resolved`)
		if n := kicks() - before; n != 200+3*97 {
			t.Errorf("%d kicks", n)
		}
	}
}

// TestTunnelFirstResolverIsDead has the name server of an uplink that is gone stand
// first in resolv.conf, with the C library's own time-out of 5 s.
func TestTunnelFirstResolverIsDead(t *testing.T) {
	l, e := named(t, "vpn.example:51820")
	resolver(t, l, "--address=/vpn.example/"+other)
	l.Script("ip route add 192.0.2.250 dev up1; ip neigh add 192.0.2.250 lladdr 02:00:00:00:00:99 dev up1")
	l.Write("/run/resolv.conf", "nameserver 192.0.2.250\nnameserver 192.0.2.1\n", 0o644)
	r := l.MustMH("refresh")
	wantEqual(t, "endpoint", e.host.Get("endpoint"), other+":51820")
	wantNone(t, "what is said", r.Stderr, "was not resolved")
}

// TestTunnelSearchDomain has a search domain with a wildcard, as some companies
// have: what is found there is another name's, and moves no endpoint.
func TestTunnelSearchDomain(t *testing.T) {
	for name, c := range map[string]struct{ endpoint, want string }{
		"a name with a dot":    {"vpn.example:51820", lab.Far4},
		"a name without a dot": {"vpn:51820", other},
	} {
		t.Run(name, func(t *testing.T) {
			l, e := named(t, c.endpoint)
			resolver(t, l, "--address=/office.test/"+other)
			l.Write("/run/resolv.conf", l.Read("/run/resolv.conf")+"search office.test\n", 0o644)
			l.MustMH("refresh")
			wantEqual(t, "endpoint", e.host.Get("endpoint"), c.want+":51820")
			noneDue(t, l)
		})
	}
}

// TestTunnelWordsOfWg has an endpoint in the forms that wg(8) takes, beside a peer
// that nobody can read.
func TestTunnelWordsOfWg(t *testing.T) {
	for name, endpoint := range map[string]string{
		"a service":       "vpn.example:https",
		"blanks":          "vpn.example : 443",
		"a name brackets": "[vpn.example]:443",
	} {
		t.Run(name, func(t *testing.T) {
			l, e := named(t, endpoint)
			l.Write("/run/hosts", other+" vpn.example\n", 0o644)
			text := strings.Replace(l.Read("/etc/wireguard/wg0.conf"), "[Peer]", "Table =\nSaveConfig = False\n[ Peer ]", 1)
			l.Write("/etc/wireguard/wg0.conf", text+"[Peer]\nEndpoint = other.example\n", 0o600)
			r := l.MH("refresh")
			wantCode(t, r, 1)
			wantPart(t, "what is said", r.Stderr, `wg0.conf: line 9: Endpoint = "other.example" is not HOST:PORT`)
			wantEqual(t, "endpoint", e.host.Get("endpoint"), other+":443")
		})
	}
}
