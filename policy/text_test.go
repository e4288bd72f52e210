package policy_test

import (
	"net/netip"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"wg-multihome/fwmark"
	"wg-multihome/policy"
	"wg-multihome/policy/policytest"
)

func TestParseStep(t *testing.T) {
	addr, prefix := netip.MustParseAddr, netip.MustParsePrefix
	full := func(v uint32) fwmark.Mark { return fwmark.Mark{Value: v, Mask: fwmark.FullMask} }
	for text, want := range map[string]policy.Step{
		"+ rule 4 32754 fwmark 0x2005 unreachable": {Op: policy.Add, Rule: policy.Rule{
			Priority: 32754, Mark: full(0x2005), Action: policy.Unreachable, Protocol: 77}},
		"+ rule 6 32752 fwmark 0x2000/0xff00 lookup main suppress_prefixlength 1": {Op: policy.Add, Rule: policy.Rule{
			Family: fwmark.IPv6, Priority: 32752, Mark: fwmark.Mark{Value: 0x2000, Mask: 0xff00},
			Action: policy.Lookup, Table: policy.TableMain, Suppresses: true, Suppress: 1, Protocol: 77}},
		"- rule 4 220 from 1.2.3.4 lookup 16909060 (taken over)": {Op: policy.Delete, Rule: policy.Rule{
			Priority: 220, From: prefix("1.2.3.4/32"), Action: policy.Lookup, Table: 16909060}},
		"+ route 4 16909060 default via 1.2.3.1 dev enp2s0.5 src 1.2.3.4": {Op: policy.Add, IsRoute: true, Route: policy.Route{
			Table: 16909060, Dst: prefix("0.0.0.0/0"), Type: policy.Unicast, Gateway: addr("1.2.3.1"), Device: "enp2s0.5", Src: addr("1.2.3.4"), Protocol: 77}},
		"- route 6 4026531840 default via fe80::1 dev via src 2001:db8::2 metric 5 onlink": {Op: policy.Delete, IsRoute: true, Route: policy.Route{
			Family: fwmark.IPv6, Table: 4026531840, Dst: prefix("::/0"), Type: policy.Unicast, Gateway: addr("fe80::1"), Device: "via",
			Src: addr("2001:db8::2"), Metric: 5, OnLink: true, Protocol: 77}},
		"- rule 4 7 not from 10.0.0.0/8 to 11.0.0.1 fwmark 0x0/0xff iif lo oif oif goto 9": {Op: policy.Delete, Rule: policy.Rule{
			Priority: 7, Invert: true, From: prefix("10.0.0.0/8"), To: prefix("11.0.0.1/32"), Mark: fwmark.Mark{Mask: 0xff},
			Iif: "lo", Oif: "oif", Action: policy.Goto, Table: 9, Protocol: 77}},
	} {
		got, err := policytest.ParseStep(text)
		if err != nil || got != want {
			t.Errorf("%q:\n got %+v, %v\nwant %+v", text, got, err, want)
		}
	}
}

func TestParseStepRefuses(t *testing.T) {
	for _, text := range []string{
		"", "+", "+ ", "* rule 4 1 unreachable", "+ rule 5 1 unreachable", "+ rule 4 x unreachable", "+ rule 4 4294967296 unreachable",
		"+ rule 4 01 unreachable", "+  rule 4 1 unreachable", "+ rule 4 1 unreachable ", "+ rule 4 1 lookup", "+ rule 4 1 lookup 254", "+ rule 4 1 lookup -1",
		"+ rule 4 1 from ::1 unreachable", "+ rule 6 1 from 1.2.3.4 unreachable", "+ rule 4 1 from 1.2.3.4/32 unreachable", "+ rule 4 1 from 1.2.3.4/8 unreachable",
		"+ rule 4 1 from 0.0.0.0/0 unreachable", "+ rule 4 1 from all unreachable", "+ rule 6 1 from fe80::1%eth0 unreachable",
		"+ rule 4 1 fwmark 8197 unreachable", "+ rule 4 1 fwmark 0x2005/0xffffffff unreachable", "+ rule 4 1 fwmark 0x1/0x0 unreachable", "+ rule 4 1 fwmark 0x1_0 unreachable",
		"+ rule 4 1 iif  unreachable", "+ rule 4 1 (and more) unreachable", "+ rule 4 1 action-7", "+ rule 4 1 action-256", "+ rule 4 1 fly",
		"+ rule 4 1 unreachable (taken over)", "- rule 4 1 unreachable (taken over) (taken over)", "- route 4 7 default dev a (taken over)",
		"+ route 4 7 0.0.0.0/0 dev a", "+ route 4 7 default dev ", "+ route 4 7 default via 1.2.3.4 dev a src ::1", "+ route 4 7 default dev a metric 0",
		"+ route 6 7 default dev a metric 1024", "+ route 4 7 type-1 default dev a", "+ route 4 7 default src 1.2.3.4 dev a", "+ route 4 7 default dev a onlink onlink",
		"= wg wg0 fwmark 0x2005",
	} {
		s, err := policytest.ParseStep(text)
		if err == nil {
			t.Errorf("%q is read as %+v", text, s)
		} else if s != (policy.Step{}) {
			t.Errorf("%q: a step comes with error %v", text, err)
		}
	}
}

// Steps, of all fields that have a text.
func anyStep(t *rapid.T) policy.Step {
	s := policy.Step{Op: rapid.SampledFrom([]policy.Op{policy.Add, policy.Delete}).Draw(t, "op")}
	family := rapid.SampledFrom(fwmark.Families[:]).Draw(t, "family")
	if rapid.Bool().Draw(t, "route") {
		s.IsRoute, s.Route = true, anyRoute(t, family)
		return s
	}
	s.Rule = policy.Rule{
		Family: family, Priority: rapid.Uint32().Draw(t, "priority"), Invert: rapid.Bool().Draw(t, "not"),
		From: anyPrefix(t, family), To: anyPrefix(t, family), Iif: anyName(t), Oif: anyName(t), Protocol: policy.Protocol,
		Action: policy.Action(rapid.Byte().Draw(t, "action")),
	}
	if mask := rapid.OneOf(rapid.Just(uint32(fwmark.FullMask)), rapid.Uint32()).Draw(t, "mask"); mask != 0 {
		s.Rule.Mark = fwmark.Mark{Value: rapid.Uint32().Draw(t, "mark"), Mask: mask}
	}
	if s.Rule.Action == policy.Lookup || s.Rule.Action == policy.Goto {
		s.Rule.Table = rapid.OneOf(rapid.Uint32(), rapid.Uint32Range(250, 256)).Draw(t, "table")
	}
	if s.Rule.Suppresses = rapid.Bool().Draw(t, "suppresses"); s.Rule.Suppresses {
		s.Rule.Suppress = rapid.Uint32().Draw(t, "suppress")
	}
	if s.Op == policy.Delete && rapid.Bool().Draw(t, "taken over") {
		s.Rule.Protocol = 0
	}
	return s
}

func anyRoute(t *rapid.T, family fwmark.Family) policy.Route {
	r := policy.Route{
		Family: family, Table: rapid.OneOf(rapid.Uint32(), rapid.Uint32Range(250, 256)).Draw(t, "table"), Protocol: policy.Protocol,
		Type: policy.RouteType(rapid.Byte().Draw(t, "type")), Device: anyName(t), OnLink: rapid.Bool().Draw(t, "onlink"),
		Metric: rapid.SampledFrom([]uint32{0, 1024, 7}).Draw(t, "metric"),
	}
	if r.Dst = anyPrefix(t, family); !r.Dst.IsValid() {
		r.Dst = netip.PrefixFrom(family.Unspecified(), 0)
	}
	if rapid.Bool().Draw(t, "gateway") {
		r.Gateway = anyAddr(t, rapid.SampledFrom(fwmark.Families[:]).Draw(t, "gateway's family"))
	}
	if rapid.Bool().Draw(t, "src") {
		r.Src = anyAddr(t, family)
	}
	return r
}

// Names that are words of the text too.
func anyName(t *rapid.T) string {
	return rapid.SampledFrom([]string{"", "eth0", "enp2s0.5", "via", "src", "onlink", "lookup", "oif", "(and"}).Draw(t, "name")
}

func anyAddr(t *rapid.T, family fwmark.Family) netip.Addr {
	b := rapid.SliceOfN(rapid.Byte(), family.Bits()/8, family.Bits()/8).Draw(t, "address")
	a, _ := netip.AddrFromSlice(b)
	return a
}

func anyPrefix(t *rapid.T, family fwmark.Family) netip.Prefix {
	bits := rapid.IntRange(0, family.Bits()).Draw(t, "bits")
	if bits == 0 {
		return netip.Prefix{}
	}
	return netip.PrefixFrom(anyAddr(t, family), bits).Masked()
}

func TestStepTextRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := anyStep(t)
		got, err := policytest.ParseStep(want.String())
		if err != nil {
			t.Fatal(err)
		}
		if got != want {
			t.Fatalf("%s:\n got %+v\nwant %+v", want, got, want)
		}
	})
}

func FuzzParseStep(f *testing.F) {
	for _, text := range []string{
		"+ rule 4 32754 fwmark 0x2005 unreachable", "+ rule 4 32753 fwmark 0x2000/0xff00 lookup 16909060",
		"- rule 6 32755 from 2001:db8::1 lookup main suppress_prefixlength 0", "- rule 4 220 from 1.2.3.4 lookup 16909060 (taken over)",
		"+ route 4 16909060 default via 1.2.3.1 dev enp2s0.5 src 1.2.3.4 onlink", "- route 6 3758096385 type-7 2001:db8::/32 metric 9",
		"- rule 4 7 not from 10.0.0.0/8 to 11.0.0.1 iif lo oif x goto 9", "- rule 4 7 action-99",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s, err := policytest.ParseStep(text)
		switch {
		case err != nil && !strings.HasPrefix(err.Error(), "step "):
			t.Errorf("an error that does not name the step: %v", err)
		case err == nil && s.String() != text:
			t.Errorf("%q prints as %q", text, s)
		}
	})
}
