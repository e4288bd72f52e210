package wg_test

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"wg-multihome/fwmark"
	"wg-multihome/wg"
	"wg-multihome/wg/wgtest"
)

var (
	now  = time.Unix(1_900_000_000, 0)
	ways = [2]bool{true, true}
)

// peer is one with a handshake that is so old; "" for no endpoint.
func peer(n byte, endpoint string, keepalive uint16, age time.Duration) wg.Peer {
	p := wg.Peer{Key: key(n), Keepalive: keepalive, Handshake: now.Add(-age)}
	if endpoint != "" {
		p.Endpoint = netip.MustParseAddrPort(endpoint)
	}
	return p
}

// refreshCase is wg0 with mark 0x2005 and a file that has these endpoints, of
// peers 1, 2, ...; "" for none.
func refreshCase(t *testing.T, peers []wg.Peer, endpoints ...string) wg.Refresh {
	t.Helper()
	text := "[Interface]\n"
	for i, e := range endpoints {
		text += "[Peer]\nPublicKey = " + base64Key(key(byte(i+1))) + "\n"
		if e != "" {
			text += "Endpoint = " + e + "\n"
		}
	}
	file, err := wg.ParseFile("wg0.conf", []byte(text), services)
	if err != nil {
		t.Fatal(err)
	}
	return wg.Refresh{
		Device: wg.Detail{Device: wg.Device{Name: "wg0", Mark: 0x2005}, Port: 51820, Peers: peers},
		Mark:   0x2005, File: file, Families: ways, Now: now,
	}
}

func lines(s ...string) string { return strings.Join(s, "\n") }

const (
	again = "= wg wg0 fwmark 0x2005"
	port  = "= wg wg0 listen-port 0"
	kick1 = "= wg wg0 peer AQIDBAUG persistent-keepalive 0 25"
	kick2 = "= wg wg0 peer AgMEBQYH persistent-keepalive 0 9"
)

func TestRefresh(t *testing.T) {
	two := []wg.Peer{peer(1, "203.0.113.1:51820", 25, time.Minute), peer(2, "", 9, time.Hour), peer(3, "192.0.2.7:1", 0, time.Hour)}
	for name, c := range map[string]struct {
		change func(*wg.Refresh)
		want   string
	}{
		"the mark again, and each peer with a keepalive": {func(*wg.Refresh) {}, lines(again, kick1, kick2)},
		"another port":     {func(c *wg.Refresh) { c.RotatePort = true }, lines(again, port, kick1, kick2)},
		"no peer":          {func(c *wg.Refresh) { c.Device.Peers = nil }, again},
		"a mark of others": {func(c *wg.Refresh) { c.Device.Mark = 7 }, ""},
		"no mark yet":      {func(c *wg.Refresh) { c.Device.Mark = 0; c.RotatePort = true }, ""},
		"no way":           {func(c *wg.Refresh) { c.Families = [2]bool{} }, lines(again, kick1, kick2)},
		"stale ones alone": {func(c *wg.Refresh) { c.OlderThan, c.RotatePort = wg.StaleAfter, true }, kick2},
		"all are stale":    {func(c *wg.Refresh) { c.OlderThan, c.RotatePort, c.Device.Peers = wg.StaleAfter, true, two[1:] }, lines(again, port, kick2)},
		"none is stale":    {func(c *wg.Refresh) { c.OlderThan, c.Device.Peers = wg.StaleAfter, two[:1] }, ""},
		"just not stale":   {func(c *wg.Refresh) { c.OlderThan, c.Device.Peers = time.Minute, two[:1] }, ""},
		"the clock was set back": {func(c *wg.Refresh) {
			c.OlderThan, c.Device.Peers = wg.StaleAfter, []wg.Peer{peer(1, "203.0.113.1:51820", 25, -time.Hour)}
		}, lines(again, kick1)},
		"no handshake at all": {func(c *wg.Refresh) {
			c.OlderThan, c.Device.Peers = wg.StaleAfter, []wg.Peer{{Key: key(1), Keepalive: 25}}
		}, lines(again, kick1)},
	} {
		t.Run(name, func(t *testing.T) {
			in := refreshCase(t, append([]wg.Peer(nil), two...), "203.0.113.1:51820", "vpn.example:2")
			c.change(&in)
			if got := text(in.AtOnce()); got != c.want {
				t.Errorf("got\n%s\nwant\n%s", got, c.want)
			}
		})
	}
}

func TestRoamedEndpoints(t *testing.T) {
	roamed := []wg.Peer{peer(1, "10.200.0.2:777", 25, 0)}
	inside, outside := netip.MustParseAddr("10.200.0.2"), netip.MustParseAddr("203.0.113.1")
	for name, c := range map[string]struct {
		file   string
		inside map[netip.Addr]bool
		routes string
		want   string
	}{
		"into the tunnel": {"203.0.113.1:51820", map[netip.Addr]bool{inside: true}, "[10.200.0.2 203.0.113.1]",
			lines(again, "= wg wg0 peer AQIDBAUG endpoint 203.0.113.1:51820", kick1)},
		"elsewhere":                {"203.0.113.1:51820", nil, "[10.200.0.2 203.0.113.1]", lines(again, kick1)},
		"and the file's is inside": {"203.0.113.1:51820", map[netip.Addr]bool{inside: true, outside: true}, "[10.200.0.2 203.0.113.1]", lines(again, kick1)},
		"another port":             {"10.200.0.2:51820", map[netip.Addr]bool{inside: true}, "[]", lines(again, kick1)},
		"a name":                   {"vpn.example:51820", map[netip.Addr]bool{inside: true}, "[]", lines(again, kick1)},
		"the file has none":        {"", map[netip.Addr]bool{inside: true}, "[]", lines(again, kick1)},
	} {
		t.Run(name, func(t *testing.T) {
			in := refreshCase(t, roamed, c.file)
			in.InTunnel = c.inside
			if got := fmt.Sprint(in.AddressesToRoute()); got != c.routes {
				t.Errorf("routes to ask for: %s, want %s", got, c.routes)
			}
			if got := text(in.AtOnce()); got != c.want {
				t.Errorf("got\n%s\nwant\n%s", got, c.want)
			}
			if got, _ := in.AfterLookUp(nil); got != nil {
				t.Errorf("moved: %v", got)
			}
		})
	}
}

func TestMoved(t *testing.T) {
	addrs := func(list ...string) wg.Answer {
		var a wg.Answer
		for _, s := range list {
			a.Addrs = append(a.Addrs, netip.MustParseAddr(s))
		}
		return a
	}
	dead := errors.New("no answer")
	failed := func(a wg.Answer, f fwmark.Family) wg.Answer { a.Errs[f] = dead; return a }
	set := func(e string) string { return lines("= wg wg0 peer AQIDBAUG endpoint "+e, kick1) }
	for name, c := range map[string]struct {
		now    string // endpoint
		ways   [2]bool
		answer wg.Answer
		want   string
		say    string
	}{
		"is where its name is":          {"203.0.113.1:777", ways, addrs("203.0.113.1"), "", ""},
		"is any of its name's":          {"203.0.113.1:777", ways, addrs("203.0.113.9", "2001:db8::1", "203.0.113.1"), "", ""},
		"moved":                         {"203.0.113.1:777", ways, addrs("203.0.113.9", "203.0.113.8"), set("203.0.113.9:51820"), ""},
		"moved within its family":       {"203.0.113.1:777", ways, addrs("2001:db8::1", "203.0.113.8"), set("203.0.113.8:51820"), ""},
		"moved within IPv6":             {"[2001:db8::9]:777", ways, addrs("203.0.113.8", "2001:db8::1"), set("[2001:db8::1]:51820"), ""},
		"moved to IPv6":                 {"203.0.113.1:777", ways, addrs("2001:db8::1"), set("[2001:db8::1]:51820"), ""},
		"mapped":                        {"203.0.113.1:777", ways, addrs("::ffff:203.0.113.1"), "", ""},
		"in a family that is gone":      {"[2001:db8::1]:51820", [2]bool{true, false}, addrs("2001:db8::1", "203.0.113.8"), set("203.0.113.8:51820"), ""},
		"none in the uplink's family":   {"203.0.113.1:1", [2]bool{true, false}, addrs("2001:db8::1"), "", "resolves to 2001:db8::1"},
		"had none":                      {"", ways, addrs("203.0.113.1"), set("203.0.113.1:51820"), ""},
		"nothing":                       {"203.0.113.1:777", ways, addrs(), "", "resolves to nothing"},
		"loopback":                      {"203.0.113.1:777", ways, addrs("127.0.0.1", "::1"), "", "resolves to 127.0.0.1"},
		"multicast":                     {"203.0.113.1:777", ways, addrs("224.0.0.1"), "", "resolves to 224.0.0.1"},
		"unspecified":                   {"203.0.113.1:777", ways, addrs("0.0.0.0"), "", "resolves to 0.0.0.0"},
		"loopback is no place to be":    {"127.0.0.1:777", ways, addrs("127.0.0.1", "203.0.113.1"), set("203.0.113.1:51820"), ""},
		"the resolver fails":            {"203.0.113.1:777", ways, wg.Answer{Errs: [2]error{dead, dead}}, "", `"vpn.example" was not resolved: no answer`},
		"its own family fails":          {"203.0.113.1:777", ways, failed(addrs("2001:db8::1"), fwmark.IPv4), "", `"vpn.example" was not resolved: no answer`},
		"the other family fails":        {"203.0.113.1:777", ways, failed(addrs("203.0.113.2"), fwmark.IPv6), set("203.0.113.2:51820"), ""},
		"is there, the other one fails": {"203.0.113.1:777", ways, failed(addrs("203.0.113.1"), fwmark.IPv6), "", ""},
		"had none, and one fails":       {"", ways, failed(addrs("203.0.113.1"), fwmark.IPv6), set("203.0.113.1:51820"), ""},
		"nothing, and one fails":        {"[2001:db8::1]:1", ways, failed(addrs(), fwmark.IPv4), "", `"vpn.example" was not resolved: no answer`},
		"loopback among good addresses": {"203.0.113.1:777", ways, addrs("127.0.0.1", "203.0.113.2"), set("203.0.113.2:51820"), ""},
	} {
		t.Run(name, func(t *testing.T) {
			in := refreshCase(t, []wg.Peer{peer(1, c.now, 25, 0), peer(2, "203.0.113.1:1", 9, 0)}, "vpn.example:51820", "203.0.113.7:1")
			in.Families = c.ways
			if got := fmt.Sprint(in.Names()); got != "[vpn.example]" {
				t.Errorf("names: %s", got)
			}
			got, errs := in.AfterLookUp(map[string]wg.Answer{"vpn.example": c.answer})
			if text(got) != c.want {
				t.Errorf("got\n%s\nwant\n%s", text(got), c.want)
			}
			if said := errors.Join(errs...); (c.say == "") != (said == nil) || said != nil && (!strings.Contains(said.Error(), c.say) || !strings.Contains(said.Error(), "wg0.conf: line 4")) {
				t.Errorf("said %v, want %q", said, c.say)
			}
		})
	}
}

func TestNamesOf(t *testing.T) {
	peers := []wg.Peer{peer(1, "203.0.113.1:1", 0, 0), peer(2, "203.0.113.1:1", 0, time.Hour), peer(3, "203.0.113.1:1", 0, 0)}
	in := refreshCase(t, peers, "b.example:1", "a.example:1", "b.example:2", "of-no-peer.example:1")
	if got := fmt.Sprint(in.Names()); got != "[a.example b.example]" {
		t.Errorf("got %s", got)
	}
	in.OlderThan = wg.StaleAfter
	if got := fmt.Sprint(in.Names()); got != "[a.example]" {
		t.Errorf("stale: %s", got)
	}
	in.Families = [2]bool{}
	if got := in.Names(); got != nil {
		t.Errorf("no way: %v", got)
	}
	in.Families, in.Device.Mark = ways, 0
	answers := map[string]wg.Answer{"a.example": {Addrs: []netip.Addr{netip.MustParseAddr("203.0.113.9")}}}
	if got, _ := in.AfterLookUp(answers); in.Names() != nil || got != nil {
		t.Errorf("without its mark: %v %v", in.Names(), got)
	}
}

// TestRefreshTouchesNothingElse draws whole cases: whatever they are, what is
// touched are peers that the device has, keepalives stay what they are, no
// endpoint becomes one that the uplink cannot reach, and all of it has a text.
func TestRefreshTouchesNothingElse(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		addr := rapid.SampledFrom([]string{"203.0.113.1", "203.0.113.2", "10.200.0.2", "2001:db8::1", "127.0.0.1", "224.0.0.1"})
		c := wg.Refresh{Mark: 5, Now: now, RotatePort: rapid.Bool().Draw(t, "rotate"), InTunnel: map[netip.Addr]bool{}, File: wg.File{Peers: map[wg.Key]wg.Endpoint{}}}
		c.Device.Name, c.Device.Mark = "wg0", rapid.SampledFrom([]uint32{5, 5, 5, 0}).Draw(t, "mark")
		c.Families = [2]bool{rapid.Bool().Draw(t, "4"), rapid.Bool().Draw(t, "6")}
		c.OlderThan = rapid.SampledFrom([]time.Duration{0, wg.StaleAfter}).Draw(t, "older than")
		keepalive := map[wg.Key]uint16{}
		for i := range rapid.IntRange(0, 4).Draw(t, "peers") {
			p := peer(byte(i), addrPort(addr.Draw(t, "endpoint")), rapid.SampledFrom([]uint16{0, 25}).Draw(t, "keepalive"), rapid.SampledFrom([]time.Duration{0, time.Hour}).Draw(t, "age"))
			c.Device.Peers = append(c.Device.Peers, p)
			keepalive[p.Key] = p.Keepalive
			switch rapid.IntRange(0, 2).Draw(t, "in the file") {
			case 0:
				c.File.Peers[p.Key] = wg.Endpoint{Host: "a", Port: 1, Line: 1}
			case 1:
				c.File.Peers[p.Key] = wg.Endpoint{Addr: netip.MustParseAddr(addr.Draw(t, "literal")), Port: 1, Line: 1}
			}
		}
		for _, a := range c.AddressesToRoute() {
			c.InTunnel[a] = rapid.Bool().Draw(t, "inside")
		}
		answer := wg.Answer{}
		for range rapid.IntRange(0, 3).Draw(t, "addresses") {
			answer.Addrs = append(answer.Addrs, netip.MustParseAddr(addr.Draw(t, "address")))
		}
		moved, _ := c.AfterLookUp(map[string]wg.Answer{"a": answer})
		for _, ch := range append(c.AtOnce(), moved...) {
			keep, known := keepalive[ch.Peer]
			switch ch.Kind {
			case wg.SetMark:
				if ch.Mark != c.Device.Mark {
					t.Fatalf("%s: the device has %#x", ch, c.Device.Mark)
				}
			case wg.RotatePort:
				if !c.RotatePort {
					t.Fatal("another port, unasked for")
				}
			case wg.Kick:
				if !known || ch.Keepalive != keep || keep == 0 {
					t.Fatalf("%s: the peer has %d", ch, keep)
				}
			case wg.SetEndpoint:
				e := c.File.Peers[ch.Peer]
				if !known || e.Host != "" && (ch.Endpoint.Addr().IsLoopback() || ch.Endpoint.Addr().IsMulticast()) || e.Host == "" && ch.Endpoint.Addr() != e.Addr {
					t.Fatalf("%s: the file has %v", ch, e)
				}
			}
			if again, err := wgtest.ParseChange(ch.String()); err != nil || again != ch {
				t.Fatalf("%s reads back as %v, %v", ch, again, err)
			}
		}
	})
}

func addrPort(addr string) string { return netip.AddrPortFrom(netip.MustParseAddr(addr), 1).String() }
