package events

import (
	"net/netip"
	"testing"

	"wg-multihome/cmd/internal/decide"
	"wg-multihome/fwmark"
	"wg-multihome/policy"
	"wg-multihome/policy/kernel"
)

func onLink(name string, up bool) kernel.Notice {
	return kernel.Notice{Subject: kernel.LinkSubject, Index: 2, Link: policy.Link{Name: name, Up: up}}
}

func address(deprecated bool) kernel.Notice {
	a := policy.Address{Device: "2", Prefix: netip.MustParsePrefix("2001:db8::2/64"), Global: true, Deprecated: deprecated}
	return kernel.Notice{Subject: kernel.AddressSubject, Index: 2, Address: a}
}

func route(table uint32, protocol uint8, bits int) kernel.Notice {
	r := kernel.RouteNotice{Family: fwmark.IPv4, Table: table, Protocol: protocol, Type: policy.Unicast, Bits: bits}
	return kernel.Notice{Subject: kernel.RouteSubject, Route: r}
}

func deleted(n kernel.Notice) kernel.Notice {
	n.Gone = true
	return n
}

// TestMatters goes through notices, one after the other, as one reader has them.
func TestMatters(t *testing.T) {
	f := filter{interest: Interest{Tables: map[decide.RouteTable]bool{{Family: fwmark.IPv4, Number: 100}: true}}}
	for _, c := range []struct {
		name string
		n    kernel.Notice
		want bool
	}{
		{"a link that was not known", onLink("wan1", true), true},
		{"its statistics", onLink("wan1", true), false},
		{"it goes down", onLink("wan1", false), true},
		{"it is renamed", onLink("wan9", false), true},
		{"it is gone", deleted(onLink("wan9", false)), true},
		{"another one of its index", onLink("wan9", false), true},
		{"an address that was not known", address(false), true},
		{"its lifetime", address(false), false},
		{"it is deprecated", address(true), true},
		{"it is gone", deleted(address(true)), true},
		{"it is back", address(true), true},
		{"a route of main", route(policy.TableMain, 4, 24), true},
		{"one of ours, in whatever table", route(7, policy.Protocol, 0), true},
		{"one of a table that is read", route(100, 186, 24), true},
		{"one of a table that nobody reads", route(101, 186, 0), false},
		{"one of local", route(policy.TableLocal, 2, 32), false},
		{"an exception", kernel.Notice{Subject: kernel.RouteSubject, Route: kernel.RouteNotice{Table: policy.TableMain, Cloned: true}}, false},
		{"a rule", kernel.Notice{Subject: kernel.RuleSubject}, true},
		{"multicast routing's", kernel.Notice{}, false},
	} {
		if got := f.matters(c.n); got != c.want {
			t.Errorf("%s: %t", c.name, got)
		}
	}
}

// TestWhatWasDroppedMayMatter: a rule comes, and routes into its table before the
// look that finds the rule is over.
func TestWhatWasDroppedMayMatter(t *testing.T) {
	var f filter
	read := Interest{Tables: map[decide.RouteTable]bool{{Family: fwmark.IPv4, Number: 100}: true}}
	f.looking()
	if f.matters(route(100, 186, 24)) {
		t.Fatal("nobody reads the table as yet")
	}
	if !f.follow(read) {
		t.Error("a route came while the host was looked at, and is missed")
	}
	f.looking()
	if f.follow(read) {
		t.Error("the look that began then has seen it")
	}
	for number := uint32(1000); number < 1000+2*maxDropped; number++ {
		f.matters(route(number, 186, 24))
	}
	if len(f.dropped) > maxDropped || !f.follow(Interest{Tables: map[decide.RouteTable]bool{{Family: fwmark.IPv4, Number: 5}: true}}) {
		t.Error("of too many to remember, any may matter")
	}
}

// TestGatewaysAreLookedForEverywhere: networkd can be told to put a default into
// any table.
func TestGatewaysAreLookedForEverywhere(t *testing.T) {
	f := filter{}
	f.looking()
	f.matters(route(300, 16, 0))
	if !f.follow(Interest{Gateways: true}) {
		t.Error("the default is missed")
	}
	if !f.matters(route(300, 16, 0)) || f.matters(route(300, 186, 24)) {
		t.Error("a default in any table matters, and no long prefix")
	}
}

func TestKnownIsBounded(t *testing.T) {
	var f filter
	for i := range uint32(3 * maxKnown) {
		n := address(false)
		n.Index = i
		f.matters(n)
		l := onLink("x", true)
		l.Index = i
		f.matters(l)
	}
	if len(f.addrs) > maxKnown || len(f.links) > maxKnown {
		t.Errorf("%d addresses and %d links are remembered", len(f.addrs), len(f.links))
	}
}

func TestHeardAddsUp(t *testing.T) {
	var h Heard
	for range 3 {
		h.Add(Heard{Changes: 40, Causes: make([]Cause, 40), Overruns: 1, Stale: stale[Rule]})
	}
	if h.Changes != 120 || len(h.Causes) != MaxCauses || h.Overruns != 3 || h.Stale != stale[Rule] {
		t.Errorf("%d changes, %d causes, %d overruns", h.Changes, len(h.Causes), h.Overruns)
	}
}

func TestWho(t *testing.T) {
	for c, want := range map[Cause]string{
		{}:                                  "",
		{Port: 77}:                          "process 77, which is gone",
		{Port: 77 | 3<<22, Process: "netd"}: "netd (process 77)",
	} {
		if got := c.Who(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func FuzzOurTable(f *testing.F) {
	f.Add([]byte("\x01\x00\x00\x00\x11\x00\x01\x00wg_multihome\x00"))
	f.Fuzz(func(_ *testing.T, b []byte) { ofOurTable(b) })
}
