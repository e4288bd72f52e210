package watch

import (
	"strings"
	"testing"
	"time"

	"wg-multihome/cmd/internal/decide"
	"wg-multihome/cmd/internal/events"
	"wg-multihome/fwmark"
	"wg-multihome/fwmark/socket"
	"wg-multihome/policy"
	"wg-multihome/policy/policytest"
	"wg-multihome/wg"
)

// decision has rules, "foreign" or ours, and a device with a mark.
func decision(t *testing.T, mark uint32, rules ...string) (d decide.Decision) {
	t.Helper()
	for _, text := range rules {
		text, foreign := strings.CutPrefix(text, "foreign ")
		s, err := policytest.ParseStep("+ " + text)
		if err != nil {
			t.Fatal(err)
		}
		if foreign {
			s.Rule.Protocol = 0
		}
		d.Facts.Rules = append(d.Facts.Rules, s.Rule)
	}
	d.Devices.Found = []wg.Device{{Name: "wg0", Mark: mark}}
	d.Pins = []fwmark.Pin{{Mark: fwmark.Mark{Value: 0x2005, Mask: fwmark.FullMask}, Uplink: "up2", Devices: []string{"wg0"}}}
	return d
}

// TestUnwound tells a full tunnel that is being taken down from one that is up, and
// from a host without any.
func TestUnwound(t *testing.T) {
	const (
		bare  = "foreign rule 4 32764 lookup main suppress_prefixlength 0"
		twin  = "foreign rule 4 32765 not fwmark 0xca6c lookup 51820"
		ours  = "rule 4 32752 fwmark 0x2005 lookup main suppress_prefixlength 0 suppress_ifgroup 77"
		other = "foreign rule 6 32764 lookup main suppress_prefixlength 0"
		from  = "foreign rule 4 100 from 192.0.2.0/24 lookup main suppress_prefixlength 0"
	)
	for _, c := range []struct {
		name  string
		rules []string
		want  bool
	}{
		{"nothing", nil, false},
		{"our own", []string{ours}, false},
		{"a full tunnel that is up", []string{ours, bare, twin}, false},
		{"one whose rule is gone", []string{ours, bare}, true},
		{"the other family's", []string{other}, false},
		{"an administrator's, with a selector", []string{from}, false},
	} {
		if got := unwound(decision(t, 0, c.rules...).Facts, fwmark.IPv4); got != c.want {
			t.Errorf("%s: %t", c.name, got)
		}
	}
}

// TestOneLookTurns: what a look puts, and takes away again as the host has changed
// meanwhile, nobody else has taken, however often.
func TestOneLookTurns(t *testing.T) {
	var h Hold
	step := func(op policy.Op) decide.RuleStep {
		return decide.RuleStep{Step: policy.Step{Op: op, Rule: policy.Rule{Action: policy.Unreachable, Protocol: policy.Protocol}}}
	}
	for i := range 10 {
		now := ms(10 * i)
		h.Begin(now, events.Heard{})
		for _, op := range []policy.Op{policy.Add, policy.Delete} {
			if h.Holds(now, decide.Decision{}, step(op)) {
				t.Fatalf("look %d: %s is held", i, step(op).Step)
			}
		}
		for _, op := range []policy.Op{policy.Add, policy.Delete} {
			h.Put(now, step(op).Step.String())
		}
		h.End(now, decide.Decision{})
	}
	if news := h.News(); len(news) > 0 {
		t.Errorf("a fight: %q", news)
	}
}

// TestSuppressRulesWait: they alone are left, in that family alone, and for a while.
func TestSuppressRulesWait(t *testing.T) {
	var h Hold
	d := decision(t, 0, "foreign rule 4 32764 lookup main suppress_prefixlength 0")
	suppress := decide.RuleStep{Step: policy.Step{Op: policy.Add, Rule: policy.Rule{Action: policy.Lookup, Table: policy.TableMain, Suppresses: true, Protocol: policy.Protocol}}}
	unreachable := decide.RuleStep{Step: policy.Step{Op: policy.Add, Rule: policy.Rule{Action: policy.Unreachable, Protocol: policy.Protocol}}}
	six := suppress
	six.Rule.Family = fwmark.IPv6
	h.Begin(ms(0), events.Heard{})
	if !h.Holds(ms(0), d, suppress) || h.Holds(ms(0), d, unreachable) || h.Holds(ms(0), d, six) {
		t.Error("suppress rules of the family are left, and nothing else")
	}
	h.End(ms(0), d)
	if at := h.Next(); !at.Equal(ms(10000)) {
		t.Errorf("looked at again at %s", at)
	}
	h.Begin(ms(10000), events.Heard{})
	if h.Holds(ms(10000), d, suppress) {
		t.Error("it is left for more than 10 s")
	}
	h.End(ms(10001), decision(t, 0)) // the tunnel is down
	h.Begin(ms(20000), events.Heard{})
	if !h.Holds(ms(20000), d, suppress) {
		t.Error("the next one is not left")
	}
}

// TestYoungDevices: a foreign mark on a device that has just come is left alone, and
// none is given ours at once.
func TestYoungDevices(t *testing.T) {
	step := decide.DeviceStep{Change: wg.Change{Device: "wg0", Mark: 0x2005}}
	for _, c := range []struct {
		name string
		mark uint32
		at   time.Time
		want bool
	}{
		{"none", 0, ms(0), false},
		{"a foreign one", 51820, ms(999), true},
		{"a foreign one, later", 51820, ms(1000), false},
	} {
		var h Hold
		h.Born(ms(0), "wg0")
		h.Begin(c.at, events.Heard{})
		if got := h.Holds(c.at, decision(t, c.mark), step); got != c.want {
			t.Errorf("%s: %t", c.name, got)
		}
		if next := h.Next(); c.want && !next.Equal(ms(1000)) {
			t.Errorf("%s: looked at again at %s", c.name, next)
		}
	}
}

// TestServicesNeverWait: one that restarts at once, again and again, is pinned each
// time, while a guard that is deleted as often is left.
func TestServicesNeverWait(t *testing.T) {
	guard := decide.RuleStep{Step: policy.Step{Op: policy.Add, Rule: policy.Rule{Action: policy.Unreachable, Protocol: policy.Protocol}}}
	service := decide.SocketStep{Step: socket.Step{Cgroup: "system.slice/a.service", Mark: fwmark.Mark{Value: 0x2005, Mask: fwmark.FullMask}}}
	for i, step := range []decide.Step{guard, service} {
		var h Hold
		held, left := false, i == 0
		for i := range 8 {
			now := ms(100 * i)
			h.Begin(now, events.Heard{})
			held = held || h.Holds(now, decision(t, 0), step)
			for _, line := range decide.Keys(step) {
				h.Put(now, line)
			}
		}
		if held != left {
			t.Errorf("%T is left: %t", step, held)
		}
	}
}
