package nft

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"wg-multihome/fwmark"
)

// standing is a ruleset as it is read back.
func standing(r Ruleset) State {
	s := State{Exists: true, Counters: map[string]uint64{}, Sets: map[string]Set{}, Chains: map[string]ChainState{}}
	for _, c := range r.Counters {
		s.Counters[c] = 0
	}
	for _, set := range r.Sets {
		s.Sets[set.Name] = set
	}
	for _, c := range r.Chains {
		state := ChainState{Base: c.Base, Fingerprints: []string{}}
		for _, rule := range c.Rules {
			state.Fingerprints = append(state.Fingerprints, rule.Fingerprint())
			if rule[0].Kind == OutDevice {
				state.Devices = append(state.Devices, rule[0].Name)
			}
		}
		s.Chains[c.Name] = state
	}
	return s
}

func prefixes(texts ...string) []netip.Prefix {
	list := make([]netip.Prefix, len(texts))
	for i, t := range texts {
		list[i] = netip.MustParsePrefix(t)
	}
	return list
}

// TestStandingLock tells from a lock that stands what it was made from, two
// marks of one value among it.
func TestStandingLock(t *testing.T) {
	whole, masked := fwmark.Mark{Value: 0x2000, Mask: fwmark.FullMask}, fwmark.Mark{Value: 0x2000, Mask: 0xff00}
	other, nobodys := fwmark.Mark{Value: 0x1001, Mask: fwmark.FullMask}, fwmark.Mark{Value: 0x7, Mask: 0xf}
	facts := Facts{
		Uplinks: []fwmark.Uplink{{Name: "up1"}, {Name: "up2"}, {Name: "wwan0"}},
		Pins: []fwmark.Pin{
			{Mark: nobodys}, {Mark: other, Uplink: "up1", Cgroups: []string{"a.slice"}}, {Mark: masked}, {Mark: whole, Uplink: "up2"},
		},
		Devices: []Device{{Name: "up1", Prefixes: prefixes("192.0.2.0/24", "ff02::/16")}, {Name: "tun9", Prefixes: prefixes("10.0.0.0/9", "10.128.0.0/9", "fd00::/8")}},
	}
	want := Want(facts)
	have := standing(want)
	if p := Diff(have, want, nil); !p.Empty() {
		t.Errorf("what stands is not what is wanted:\n%s", strings.Join(p.Steps, "\n"))
	}
	claims := []fwmark.Claim{{Mark: nobodys}, {Mark: other, Uplink: "up1"}, {Mark: masked}, {Mark: whole, Uplink: "up2"}}
	if diff := cmp.Diff(claims, have.Claims()); diff != "" {
		t.Errorf("claims: wanted (-), got (+):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"up1", "up2", "wwan0"}, have.Locked()); diff != "" {
		t.Errorf("devices: wanted (-), got (+):\n%s", diff)
	}
	names := map[string]bool{}
	for _, c := range want.Chains {
		if names[c.Name] {
			t.Errorf("two chains %s", c.Name)
		}
		names[c.Name] = true
	}
	// A typo takes all uplinks and marks but what stands; the lock is the same.
	facts.Uplinks, facts.Broken, facts.Have = nil, true, have
	if p := Diff(have, Want(facts), nil); !p.Empty() {
		t.Errorf("while the configuration has an error:\n%s", strings.Join(p.Steps, "\n"))
	}
	if claims := (State{}).Claims(); len(claims) != 0 {
		t.Errorf("claims of nothing: %v", claims)
	}
}

// TestOlderLock reads a lock whose marks' chains each list all devices that are
// held, as it was made until the chain of exemptions did that for all marks: its
// claims and devices are known, and one plan leads from it to today's.
func TestOlderLock(t *testing.T) {
	one, two := fwmark.Mark{Value: 0x1001, Mask: fwmark.FullMask}, fwmark.Mark{Value: 0x2000, Mask: 0xff00}
	facts := Facts{
		Uplinks: []fwmark.Uplink{{Name: "up1"}, {Name: "up2"}, {Name: "wwan0"}},
		Pins:    []fwmark.Pin{{Mark: one, Uplink: "up1"}, {Mark: two}},
		Devices: []Device{{Name: "up1", Prefixes: prefixes("192.0.2.0/24")}, {Name: "tun9", Prefixes: prefixes("10.0.0.0/8")}},
	}
	want := Want(facts)
	older := want
	older.Chains = slices.Clone(want.Chains)
	for i := range older.Chains {
		c := &older.Chains[i]
		switch {
		case c.Name == "lock_exempt":
			c.Rules = slices.DeleteFunc(slices.Clone(c.Rules), func(r Rule) bool {
				private := r[0].Kind == To && fwmark.IsPrivate(r[0].Prefix)
				return r[len(r)-1].Kind == Return || r[0].Kind == OutDevice && r[0].Name == "lo" || private
			})
		case c.Base == Base{}:
			m, err := fwmark.Parse(strings.TrimPrefix(c.Name, "lock_"))
			if err != nil {
				t.Fatal(err)
			}
			c.Rules = slices.Clone(c.Rules[:len(c.Rules)-1])
			for _, out := range []Expr{
				{Kind: OutDevice, Name: "up1"}, {Kind: OutDevice, Name: "up2"}, {Kind: OutDevice, Name: "wwan0"},
				{Kind: OutKind, Name: "tun"}, {Kind: OutKind, Name: "wireguard"},
			} {
				if m != one || out.Name != "up1" {
					c.Rules = append(c.Rules, Rule{out, {Kind: Count, Name: LockCounter(m)}, {Kind: Drop}})
				}
			}
		}
	}
	have := standing(older)
	if diff := cmp.Diff([]fwmark.Claim{{Mark: one, Uplink: "up1"}, {Mark: two}}, have.Claims()); diff != "" {
		t.Errorf("claims: wanted (-), got (+):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"up1", "up2", "wwan0"}, have.Locked()); diff != "" {
		t.Errorf("devices: wanted (-), got (+):\n%s", diff)
	}
	facts.Have = have
	wantSteps := "= nft chain lock_exempt (20 rules)\n= nft chain lock_0x1001 (3 rules)\n= nft chain lock_0x2000/0xff00 (2 rules)"
	if diff := cmp.Diff(wantSteps, strings.Join(Diff(have, Want(facts), nil).Steps, "\n")); diff != "" {
		t.Errorf("steps: wanted (-), got (+):\n%s", diff)
	}
	facts.Uplinks, facts.Broken = nil, true
	if diff := cmp.Diff(want.String(), Want(facts).String()); diff != "" {
		t.Errorf("while the configuration has an error: wanted (-), got (+):\n%s", diff)
	}
}

// TestLockGrows with marks and uplinks, and not with their product.
func TestLockGrows(t *testing.T) {
	rules := func(marks, uplinks int) (n int) {
		var f Facts
		for i := range uplinks {
			f.Uplinks = append(f.Uplinks, fwmark.Uplink{Name: fmt.Sprintf("up%d", i)})
			f.Devices = append(f.Devices, Device{Name: fmt.Sprintf("up%d", i), Prefixes: prefixes("192.0.2.0/24", "2001:db8::/64")})
		}
		for i := range marks {
			f.Pins = append(f.Pins, fwmark.Pin{Mark: fwmark.Mark{Value: uint32(1 + i), Mask: fwmark.FullMask}, Uplink: fmt.Sprintf("up%d", i%uplinks)})
		}
		for _, c := range Want(f).Chains {
			n += len(c.Rules)
		}
		return n
	}
	one := rules(1, 1)
	mark, uplink := rules(2, 1)-one, rules(1, 2)-one
	for _, n := range []int{10, 300} {
		if got, want := rules(n, n), one+(n-1)*(mark+uplink); got != want {
			t.Errorf("%d marks and uplinks take %d rules, want %d", n, got, want)
		}
	}
}

func TestUnknown(t *testing.T) {
	device := Device{Name: "tun9", Tunnel: true, Prefixes: prefixes("10.0.0.0/9", "10.128.0.0/9", "fd00::/8", "192.0.0.0/2")}
	have := standing(Want(Facts{Pins: []fwmark.Pin{{Mark: fwmark.Mark{Value: 1, Mask: fwmark.FullMask}}}, Devices: []Device{device}}))
	for text, known := range map[string]bool{
		"10.0.0.0/8": true, "10.255.255.255/32": true, "11.0.0.0/8": false, "10.0.0.0/7": false, "9.0.0.0/8": false, "0.0.0.0/2": false,
		"255.255.255.255/32": true, "224.0.0.0/4": true, "192.0.0.0/3": true, "fd12::/16": true, "fc00::/7": false, "2001:db8::/32": false, "ff02::/16": true,
	} {
		unknown := Unknown(have, Device{Name: "tun9", Tunnel: true, Prefixes: prefixes(text)})
		if (len(unknown) == 0) != known {
			t.Errorf("%s: unknown are %v", text, unknown)
		}
	}
	if unknown := Unknown(have, Device{Name: "tun8", Tunnel: true, Prefixes: prefixes("10.0.0.0/8", "fe80::/64")}); len(unknown) != 1 {
		t.Errorf("of a device that has no set: %v", unknown)
	}
	if unknown := Unknown(have, Device{Name: "br0", Prefixes: prefixes("10.0.0.0/8", "192.0.2.0/24")}); len(unknown) != 1 || fwmark.IsPrivate(unknown[0]) {
		t.Errorf("of a bridge: %v", unknown)
	}
	if unknown := Unknown(State{}, device); unknown != nil {
		t.Errorf("of no lock: %v", unknown)
	}
}

// TestClaimsOfFullTunnels: that a mark was never configured is told by the name
// of its chain alone, once the tunnel is gone.
func TestClaimsOfFullTunnels(t *testing.T) {
	full := fwmark.Mark{Value: 0xca6c, Mask: fwmark.FullMask}
	have := standing(Want(Facts{Uplinks: []fwmark.Uplink{{Name: "up1"}}, Pins: []fwmark.Pin{{Mark: full, Uplink: "up1", Full: true}}}))
	if diff := cmp.Diff([]fwmark.Claim{{Mark: full, Uplink: "up1", Full: true}}, have.Claims()); diff != "" {
		t.Errorf("claims: wanted (-), got (+):\n%s", diff)
	}
}
