package e2e

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"wg-multihome/test/lab"
)

// other is a second address of far's: endpoints move there.
const other = "203.0.113.2"

// named is a session whose peer has this endpoint in /etc/wireguard/wg0.conf,
// while far has a second address.
func named(t *testing.T, endpoint string) (*lab.Lab, ends) {
	t.Helper()
	l := newLab(t)
	e := session(t, l)
	l.Far.Run("ip", "addr", "add", other+"/32", "dev", "lo")
	for i, isp := range []*lab.Namespace{l.ISP1, l.ISP2} {
		isp.Run("ip", "route", "add", other, "via", fmt.Sprintf("10.%d.0.2", i+1))
	}
	e.file(t, l, "Endpoint = "+endpoint+"\n")
	return l, e
}

func TestTunnelNamesThatMove(t *testing.T) {
	for name, c := range map[string]struct{ hosts, want string }{
		"moved":         {other + " vpn.example\n", other},
		"stays":         {lab.Far4 + " vpn.example\n", lab.Far4},
		"one of two":    {other + " vpn.example\n" + lab.Far4 + " vpn.example\n", lab.Far4},
		"to loopback":   {"127.0.0.1 vpn.example\n", lab.Far4},
		"to multicast":  {"224.0.0.5 vpn.example\n", lab.Far4},
		"to nothing":    {"", lab.Far4},
		"and loopback":  {"127.0.0.1 vpn.example\n" + other + " vpn.example\n", other},
		"to IPv6 alone": {lab.Far6 + " vpn.example\n", "[" + lab.Far6 + "]"},
	} {
		t.Run(name, func(t *testing.T) {
			l, e := named(t, "vpn.example:51820")
			l.Write("/run/hosts", c.hosts, 0o644)
			r := l.MustMH("refresh")
			if got := e.host.Get("endpoint"); got != c.want+":51820" {
				t.Errorf("the endpoint is %s, want %s:51820\n%s", got, c.want, r.Stderr)
			}
			if kept := c.want == lab.Far4 && !strings.Contains(c.hosts, lab.Far4); kept {
				wantPart(t, "what is said", r.Stderr, `wg0.conf: line 5: "vpn.example"`)
			}
			kicks := 1
			if c.want != lab.Far4 {
				kicks = 2 // once more when it has moved
			}
			if n := strings.Count(r.Stderr, "persistent-keepalive"); n != kicks {
				t.Errorf("%d kicks, want %d:\n%s", n, kicks, r.Stderr)
			}
			noSpoof(t, l)
		})
	}
}

// TestTunnelNameInTheUplinksFamily has both addresses, and an uplink that has lost
// IPv6.
func TestTunnelNameInTheUplinksFamily(t *testing.T) {
	l, e := named(t, "vpn.example:51820")
	l.Write("/run/hosts", lab.Far6+" vpn.example\n"+other+" vpn.example\n", 0o644)
	e.host.Set("public_key="+e.host.Get("public_key"), "endpoint=["+lab.Far6+"]:51820")
	l.Script("ip -6 route del default via 2001:db8:2::1 dev up2; ip addr del 2001:db8:2::10/64 dev up2")
	wantPart(t, "status", l.MustMH("status").Stdout, "is of IPv6, which uplink \"up2\" lacks")
	l.MustMH("sync")
	l.MustMH("refresh")
	wantEqual(t, "endpoint", e.host.Get("endpoint"), other+":51820")
}

// TestTunnelDeadResolver has a resolver that never answers: the kick does not wait
// for it, and all is over in time.
func TestTunnelDeadResolver(t *testing.T) {
	l, e := named(t, "vpn.example:51820")
	l.Script("ip route add 192.0.2.250 dev up1; ip neigh add 192.0.2.250 lladdr 02:00:00:00:00:99 dev up1")
	l.Write("/run/resolv.conf", "nameserver 192.0.2.250\noptions attempts:20\n", 0o644)
	l.Script("ip addr add 198.51.100.77/24 dev up2; ip addr del 198.51.100.10/24 dev up2; ip route replace default via 198.51.100.1 dev up2 metric 2")
	since := time.Now()
	ended := make(chan lab.Result)
	go func() { ended <- l.Event(bound("RENEW", "198.51.100.77", "198.51.100.1")...) }()
	e.learns(t, "198.51.100.77", since)
	select {
	case <-ended:
		t.Error("it did not ask the resolver")
	default:
	}
	r := <-ended
	if took := time.Since(since); took > 5*time.Second+lab.Slack {
		t.Errorf("it took %s", took)
	}
	wantCode(t, r, 0)
	wantPart(t, "what is said", r.Stderr, `"vpn.example" was not resolved`)
	noneDue(t, l)
}

func TestTunnelFilesThatAreBad(t *testing.T) {
	for name, text := range map[string]string{
		"no key":    "[Interface]\n[Peer]\nEndpoint = vpn.example:1\n",
		"no value":  "[Interface]\nPrivateKey\n",
		"no folder": "",
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			e := session(t, l)
			e.host.Set("fwmark=0")
			lab.Until(t, "it has no mark", func() bool { return e.host.Get("fwmark") == "" })
			say := "/etc/wireguard/wg0.conf: line 2:"
			if text == "" {
				say = "/etc/wireguard/wg0.conf: not a regular file"
				l.Script("mkdir /etc/wireguard/wg0.conf")
			} else {
				l.Write("/etc/wireguard/wg0.conf", text, 0o600)
			}
			r := l.MH("sync")
			wantCode(t, r, 1)
			wantPart(t, "what is said", r.Stderr, say)
			wantPart(t, "what is done", r.Stderr, "persistent-keepalive 0 25")
			wantEqual(t, "mark", e.host.Get("fwmark"), "8197")
			noneDue(t, l)
			wantPart(t, "status", l.MH("status").Stdout, say)
		})
	}
}

// TestTunnelFwMarkThatContradicts: ours is set, and it is said. 255 is the number of
// the table that has the device's own address.
func TestTunnelFwMarkThatContradicts(t *testing.T) {
	l := newLab(t)
	e := session(t, l)
	for _, mark := range []int{0x77, 255} {
		l.Write("/etc/wireguard/wg0.conf", fmt.Sprintf("[Interface]\nFwMark = %#x\nSaveConfig = true\n", mark), 0o600)
		e.host.Set(fmt.Sprintf("fwmark=%d", mark))
		lab.Until(t, "it has the file's", func() bool { return e.host.Get("fwmark") == fmt.Sprint(mark) })
		wantPart(t, "what is said", l.MustMH("sync").Stderr, fmt.Sprintf("wg0.conf: FwMark = %#x is not mark 0x2005 of uplink \"up2\"", mark))
		wantEqual(t, "mark", e.host.Get("fwmark"), "8197")
		status := l.MustMH("status").Stdout
		wantPart(t, "status", status, fmt.Sprintf("FwMark = %#x", mark))
		wantPart(t, "status", status, "SaveConfig = true")
	}
}

// TestTunnelRoamedEndpoints: a literal endpoint that has roamed into the tunnel is
// set back, and one that has roamed elsewhere is left alone.
func TestTunnelRoamedEndpoints(t *testing.T) {
	for name, c := range map[string]struct{ at, want string }{
		"into the tunnel": {"10.200.0.2:51820", lab.Far4 + ":51820"},
		"elsewhere":       {other + ":51820", other + ":51820"},
	} {
		t.Run(name, func(t *testing.T) {
			l, e := named(t, lab.Far4+":51820")
			l.Interfaces(tunnelled)
			e.host.Set("public_key="+e.host.Get("public_key"), "endpoint="+c.at)
			lab.Until(t, "it has roamed", func() bool { return e.host.Get("endpoint") == c.at })
			if name == "into the tunnel" {
				wantPart(t, "status", l.MustMH("status").Stdout, `lies inside tunnel "wg0"`)
			}
			l.MustMH("refresh")
			wantEqual(t, "endpoint", e.host.Get("endpoint"), c.want)
		})
	}
}

func TestSilentDevice(t *testing.T) {
	l := newLab(t)
	l.Static()
	l.Interfaces(tunnelled)
	l.Script("ip link add wg0 type veth peer name wg0x; mkdir -p /run/wireguard")
	listener, err := net.Listen("unix", l.Path("/run/wireguard/wg0.sock"))
	if err != nil {
		t.Fatalf("no socket there: %v", err)
	}
	defer listener.Close()
	for _, args := range [][]string{{"sync"}, {"refresh"}, {"status"}} {
		since := time.Now()
		r := l.MH(args...)
		wantCode(t, r, 1)
		if took := time.Since(since); took > 3*time.Second+lab.Slack {
			t.Errorf("%v took %s", args, took)
		}
		wantPart(t, "what is said", r.Stdout+r.Stderr, `WireGuard device "wg0": no answer `)
		wantNone(t, "what is said", r.Stdout, "absent")
	}
	l.WantSeen(lab.Far4, "", mark, two4)
}

func TestTunnelStatusOfTunnels(t *testing.T) {
	l := newLab(t)
	e := session(t, l)
	l.Interfaces(pinned + "\tmultihomed-wireguard wg0 absent0\n")
	key := e.host.Get("public_key")
	raw, err := hex.DecodeString(key)
	if err != nil {
		t.Fatal(err)
	}
	whole := base64.StdEncoding.EncodeToString(raw)
	text := l.MustMH("status").Stdout
	wantPart(t, "status", squeeze(text), "wg0 up2 0x2005 0x2005 PEER")
	_, peer, _ := strings.Cut(squeeze(text), whole[:8]+" wg0 "+lab.Far4+":51820 ")
	wantPart(t, "status", peer, "s ago ")
	wantPart(t, "status", text, "absent0: is not there (one in another network namespace")
	asJSON := wantValid(t, "status", l.MustMH("status", "--json").Stdout)
	for _, s := range []string{text, asJSON} {
		wantNone(t, "status", s, whole[:9])
		wantNone(t, "status", s, key[:12])
	}
	var s struct {
		Tunnels []struct {
			Device, Mark, Wanted string
			Peers                []struct {
				Key, Endpoint string
				Age           int `json:"last_handshake_age"`
				Sent          int
			}
		}
	}
	if err := json.Unmarshal([]byte(asJSON), &s); err != nil || len(s.Tunnels) != 2 || len(s.Tunnels[1].Peers) != 1 {
		t.Fatalf("%v: %s", err, asJSON)
	}
	p := s.Tunnels[1].Peers[0]
	if p.Key != whole[:8] || p.Endpoint != lab.Far4+":51820" || p.Sent == 0 || p.Age > 60 {
		t.Errorf("got %+v", p)
	}
	e.host.Set("fwmark=0")
	lab.Until(t, "it has no mark", func() bool { return e.host.Get("fwmark") == "" })
	r := l.MH("status", "--exit-code")
	wantCode(t, r, 3)
	wantPart(t, "status", strings.Join(strings.Fields(r.Stdout), " "), "wg0 up2 off 0x2005")
}

// TestMisspeltUplink: an uplink that is not there, while an interface has nearly its name,
// may be a slip.
func TestMisspeltUplink(t *testing.T) {
	l := newLab(t)
	l.Static()
	for name, want := range map[string]string{"up22": `uplink "up22" is not there (did you mean "up2"?)`, "modem": "", "up2": ""} {
		config := l.TOML(fmt.Sprintf("[uplink.up1]\nfwmark = 1\n[uplink.%s]\nfwmark = 2\n", name))
		l.MustMH("sync", "--config", config)
		text := l.MustMH("status", "--config", config).Stdout
		wantPart(t, "status", text, want)
		if want == "" {
			wantNone(t, "status", text, "did you mean")
		}
	}
}
