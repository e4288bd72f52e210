package lease_test

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"strings"
	"testing"

	"wg-multihome/fwmark"
	"wg-multihome/policy/lease"
)

// env is an environment; lookup finds nothing else.
type env map[string]string

func (e env) lookup(name string) (string, bool) {
	value, ok := e[name]
	return value, ok
}

// changed returns a copy with some variables changed; pairs are name=value.
func changed(e env, pairs []string) env {
	e = maps.Clone(e)
	for _, p := range pairs {
		name, value, _ := strings.Cut(p, "=")
		e[name] = value
	}
	return e
}

func show(e lease.Event) string {
	text := fmt.Sprintf("%s %s", e.Kind, e.Reason)
	if e.Interface != "" {
		text += " " + e.Interface
	}
	if e.Family == fwmark.IPv6 {
		text += " of IPv6"
	}
	if e.IfGone {
		text += " if it is gone"
	}
	if e.Kind != lease.Leased {
		return text
	}
	text += fmt.Sprintf(" %s", e.Address)
	switch {
	case !e.Gateway.IsValid():
		text += " no gateway"
	case e.Gateway.IsUnspecified():
		text += " no via"
	default:
		text += " via " + e.Gateway.String()
	}
	if e.Fresh {
		text += " fresh"
	}
	return text
}

// said is an environment and what it is read as.
type said struct {
	name, action string
	env          env
	want         string
}

func wantSaid(t *testing.T, client string, cases []said) {
	t.Helper()
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			e, err := lease.Parse(client, c.action, c.env.lookup)
			if err != nil {
				t.Fatal(err)
			}
			if got := show(e); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

// wantRefused: c.want is the error, and no event comes with it.
func wantRefused(t *testing.T, client string, cases []said) {
	t.Helper()
	for _, c := range cases {
		t.Run(c.want, func(t *testing.T) {
			e, err := lease.Parse(client, c.action, c.env.lookup)
			if err == nil || err.Error() != c.want {
				t.Errorf("got  %v\nwant %s", err, c.want)
			}
			if e != (lease.Event{}) {
				t.Errorf("an event came: %s", show(e))
			}
		})
	}
}

// TestUsage: what no DHCP client has called is told from a client's environment
// that is refused, as nothing is known of what was done then.
func TestUsage(t *testing.T) {
	for _, c := range []struct {
		client, action string
		env            env
		want           string
	}{
		{"nobody", "", good, `DHCP client "nobody" is not known (dhclient, dhcpcd, udhcpc are)`},
		{"", "", good, `DHCP client "" is not known (dhclient, dhcpcd, udhcpc are)`},
		{"dhclient", "", env{}, "reason is not set"},
		{"dhcpcd", "", env{"protocol": "dhcp", "reason": ""}, "reason is not set"},
		{"dhclient", "bound", good, `dhclient has no argument such as "bound", udhcpc has`},
		{"dhcpcd", "bound", good, `dhcpcd has no argument such as "bound", udhcpc has`},
		{"udhcpc", "", good, "udhcpc's argument (bound, renew, deconfig ...) is missing"},
	} {
		_, err := lease.Parse(c.client, c.action, c.env.lookup)
		if !errors.Is(err, lease.ErrUsage) || err.Error() != "not called by a DHCP client's hook: "+c.want {
			t.Errorf("%s %s: %v", c.client, c.action, err)
		}
	}
	if _, err := lease.Parse("dhclient", "", with("new_ip_address=x").lookup); errors.Is(err, lease.ErrUsage) {
		t.Errorf("a refused value is not usage: %v", err)
	}
}

// TestClientsAgree: the same lease is the same event, whoever tells of it.
func TestClientsAgree(t *testing.T) {
	for _, c := range []struct{ routers, octets, text, want string }{
		{"1.2.3.1 1.2.3.2", "", "", "1.2.3.4/24 via 1.2.3.1 fresh"},
		{"", "", "", "1.2.3.4/24 no gateway fresh"},
		{"1.2.3.1", "0 1 2 3 7 8 10 1 2 3 1", "0.0.0.0/0 1.2.3.7 10.0.0.0/8 1.2.3.1", "1.2.3.4/24 via 1.2.3.7 fresh"},
		{"1.2.3.1", "8 10 1 2 3 1", "10.0.0.0/8 1.2.3.1", "1.2.3.4/24 no gateway fresh"},
		{"1.2.3.1", "0 0 0 0 0", "0.0.0.0/0 0.0.0.0", "1.2.3.4/24 no via fresh"},
		{"1.2.3.1", "0 127 0 0 1 0 1 2 3 9", "0.0.0.0/0 127.0.0.1 0.0.0.0/0 1.2.3.9", "1.2.3.4/24 via 1.2.3.9 fresh"},
	} {
		for client, call := range map[string]struct {
			action string
			env    env
		}{
			"dhclient": {"", with("new_routers="+c.routers, option121+c.octets)},
			"dhcpcd":   {"", withDhcpcd("new_routers="+c.routers, "new_classless_static_routes="+c.text)},
			"udhcpc":   {"bound", withUdhcpc("router="+c.routers, "staticroutes="+c.text)},
		} {
			e, err := lease.Parse(client, call.action, call.env.lookup)
			if err != nil || !strings.HasSuffix(show(e), " enp2s0.5 "+c.want) {
				t.Errorf("%s of %+v: %s %v", client, c, show(e), err)
			}
		}
	}
}

// TestAnotherClientsEnvironment: dhclient and dhcpcd have the same names for an
// address, and not for option 121, so that each would miss the other's.
func TestAnotherClientsEnvironment(t *testing.T) {
	for _, c := range []struct {
		client string
		env    env
	}{{"dhclient", withDhcpcd()}, {"dhcpcd", with()}, {"dhcpcd", withUdhcpc("reason=BOUND")}} {
		if e, err := lease.Parse(c.client, "", c.env.lookup); err == nil {
			t.Errorf("%s took %v for %s", c.client, c.env, show(e))
		}
	}
}

// checkEvent states what holds for every event and every error.
func checkEvent(t *testing.T, e lease.Event, err error) {
	t.Helper()
	if err != nil {
		if text := err.Error(); len(text) > 1000 || strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r == 0x7f }) {
			t.Errorf("not one short line: %q", text)
		}
		if e != (lease.Event{}) {
			t.Errorf("an event came with an error: %+v", e)
		}
		return
	}
	if e.Kind == lease.Nothing {
		return
	}
	if e.LeftOut != nil {
		if text := e.LeftOut.Error(); len(text) > 1000 || strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r == 0x7f }) {
			t.Errorf("not one short line: %q", text)
		}
	}
	if err := fwmark.ValidName(e.Interface); err != nil {
		t.Errorf("%q %v", e.Interface, err)
	}
	if e.IfGone && e.Kind != lease.Lost || e.Family == fwmark.IPv6 && e.Kind != lease.Look {
		t.Errorf("only a look is of IPv6, and only a loss depends: %+v", e)
	}
	if e.Kind != lease.Leased {
		if e.Address.IsValid() || e.Gateway.IsValid() {
			t.Errorf("there is an address without a lease: %+v", e)
		}
		return
	}
	checkAddress(t, e.Address.Addr())
	if !e.Address.IsValid() {
		t.Errorf("prefix %v", e.Address)
	}
	if e.Gateway == e.Address.Addr() {
		t.Errorf("gateway %v is the address", e.Gateway)
	}
	if e.Gateway.IsValid() && !e.Gateway.IsUnspecified() && !e.Gateway.IsLinkLocalUnicast() {
		checkAddress(t, e.Gateway)
	}
}

func checkAddress(t *testing.T, a netip.Addr) {
	t.Helper()
	if !a.Is4() || !a.IsGlobalUnicast() || a.As4()[0] == 0 || a.As4()[0] >= 224 {
		t.Errorf("address %v", a)
	}
}
