package kernel

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"wg-multihome/fwmark"
	"wg-multihome/policy"
)

// decodeRoutes returns all that a message decodes to.
func decodeRoutes(m []byte, device func(uint32) string) ([]policy.Route, error) {
	var routes []policy.Route
	d := routeDecoder{device: device}
	err := d.decode(m, func(r *policy.Route) { routes = append(routes, *r) })
	return routes, err
}

func drawPrefix(t *rapid.T, f fwmark.Family, name string) netip.Prefix {
	b := rapid.SliceOfN(rapid.Byte(), f.Bits()/8, f.Bits()/8).Draw(t, name)
	addr, _ := netip.AddrFromSlice(b)
	return netip.PrefixFrom(addr, rapid.IntRange(1, f.Bits()).Draw(t, name+" bits")).Masked()
}

var names = rapid.StringMatching(`[a-z0-9.]{1,15}`)

// TestRulesComeBack encodes and decodes any rule, with tables and marks of all
// 32 bits.
func TestRulesComeBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := rapid.SampledFrom(fwmark.Families[:]).Draw(t, "family")
		r := policy.Rule{
			Family: f, Priority: rapid.Uint32().Draw(t, "priority"), Invert: rapid.Bool().Draw(t, "invert"),
			Action:   rapid.SampledFrom([]policy.Action{policy.Lookup, policy.Goto, policy.Nop, policy.Blackhole, policy.Unreachable, policy.Prohibit}).Draw(t, "action"),
			Protocol: rapid.Byte().Draw(t, "protocol"),
		}
		if r.Action == policy.Lookup || r.Action == policy.Goto {
			r.Table = rapid.Uint32Min(1).Draw(t, "table")
		}
		if rapid.Bool().Draw(t, "marked") {
			r.Mark.Mask = rapid.Uint32Min(1).Draw(t, "mask")
			r.Mark.Value = rapid.Uint32().Draw(t, "mark") & r.Mark.Mask
		}
		if rapid.Bool().Draw(t, "suppresses") {
			r.Suppresses, r.Suppress = true, rapid.Uint32Max(128).Draw(t, "length")
		}
		if rapid.Bool().Draw(t, "suppresses a group") {
			r.SuppressesGroup, r.SuppressGroup = true, rapid.Uint32Max(0x7fffffff).Draw(t, "group")
		}
		for _, p := range []*netip.Prefix{&r.From, &r.To} {
			if rapid.Bool().Draw(t, "has prefix") {
				*p = drawPrefix(t, f, "prefix")
			}
		}
		for _, s := range []*string{&r.Iif, &r.Oif} {
			if rapid.Bool().Draw(t, "has device") {
				*s = names.Draw(t, "device")
			}
		}
		got, err := decodeRule(appendRule(nil, &r))
		if err != nil || got != r {
			t.Fatalf("%+v, %v\nwant %+v", got, err, r)
		}
	})
}

func TestRoutesComeBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := rapid.SampledFrom(fwmark.Families[:]).Draw(t, "family")
		r := policy.Route{
			Family: f, Table: rapid.Uint32Min(1).Draw(t, "table"), Type: policy.Unicast, Metric: rapid.Uint32().Draw(t, "metric"),
			Dst: netip.PrefixFrom(f.Unspecified(), 0), Device: "up1", Protocol: rapid.Byte().Draw(t, "protocol"), OnLink: rapid.Bool().Draw(t, "onlink"),
		}
		if rapid.Bool().Draw(t, "longer") {
			r.Dst = drawPrefix(t, f, "to")
		}
		if rapid.Bool().Draw(t, "has gateway") {
			r.Gateway = drawPrefix(t, rapid.SampledFrom(fwmark.Families[:]).Draw(t, "its family"), "gateway").Addr()
		}
		if rapid.Bool().Draw(t, "has source") {
			r.Src = drawPrefix(t, f, "source").Addr()
		}
		if rapid.Bool().Draw(t, "has sizes") {
			r.MTU, r.AdvMSS = rapid.Uint32().Draw(t, "mtu"), rapid.Uint32().Draw(t, "advmss")
		}
		r.Preference = rapid.SampledFrom([]policy.Preference{policy.LowPreference, policy.MediumPreference, policy.HighPreference}).Draw(t, "preference")
		index := rapid.Uint32Min(1).Draw(t, "index")
		got, err := decodeRoutes(appendRoute(nil, &r, index), func(i uint32) string {
			if i == index {
				return "up1"
			}
			return ""
		})
		if d := cmp.Diff([]policy.Route{r}, got, comparable); err != nil || d != "" {
			t.Fatalf("%v (-want +got):\n%s", err, d)
		}
	})
}

// TestStrangeRulesAreOpaque: what we do not know never breaks the listing, and
// makes the rule foreign whatever its protocol.
func TestStrangeRulesAreOpaque(t *testing.T) {
	plain := policy.Rule{Priority: 5, Action: policy.Lookup, Table: 9, Protocol: policy.Protocol}
	for name, change := range map[string]func([]byte) []byte{
		"an unknown attribute":         func(m []byte) []byte { return appendAttribute(m, 99, 1) },
		"l3mdev":                       func(m []byte) []byte { return appendAttribute(m, unix.FRA_L3MDEV, 1) },
		"ports":                        func(m []byte) []byte { return appendAttribute(m, unix.FRA_DPORT_RANGE, 7, 0, 7, 0) },
		"type of service":              func(m []byte) []byte { m[3] = 4; return m },
		"a short number":               func(m []byte) []byte { return appendAttribute(m, unix.FRA_FWMARK, 1, 2) },
		"a length without its address": func(m []byte) []byte { m[2] = 24; return m },
	} {
		r, err := decodeRule(change(appendRule(nil, &plain)))
		if err != nil || !r.Opaque || r.Ours() {
			t.Errorf("%s: %+v, %v", name, r, err)
		}
	}
	if r, err := decodeRule(appendRule(nil, &plain)); err != nil || r != plain {
		t.Errorf("a plain one: %+v, %v", r, err)
	}
}

func TestMarkWithoutMaskHasTheFullOne(t *testing.T) {
	m := header(fwmark.IPv4, 0)
	m[7] = byte(policy.Unreachable)
	r, err := decodeRule(appendNumber(m, unix.FRA_FWMARK, 5))
	if err != nil || r.Mark != (fwmark.Mark{Value: 5, Mask: fwmark.FullMask}) {
		t.Errorf("%+v, %v", r, err)
	}
}

func FuzzRule(f *testing.F) {
	f.Add(appendRule(nil, &policy.Rule{Priority: 5, Action: policy.Lookup, Table: 1 << 31, Mark: fwmark.Mark{Value: 1, Mask: 3}, Iif: "lo"}))
	f.Add(appendRule(nil, &policy.Rule{Priority: 5, Action: policy.Lookup, Table: policy.TableMain, Suppresses: true, SuppressesGroup: true, SuppressGroup: 77, Mark: fwmark.Mark{Value: 1, Mask: 3}}))
	f.Fuzz(func(t *testing.T, m []byte) {
		r, err := decodeRule(m)
		if err != nil {
			return
		}
		if r.Mark.Mask == 0 && r.Mark.Value != 0 && !r.Opaque || r.From.IsValid() && r.From != r.From.Masked() {
			t.Errorf("%+v", r)
		}
		// What is not opaque is all that was there.
		if again, err := decodeRule(appendRule(nil, &r)); !r.Opaque && r.Mark.Mask != 0 && (err != nil || again != r) {
			t.Errorf("%+v, %v\nwas %+v", again, err, r)
		}
	})
}

func FuzzRoute(f *testing.F) {
	f.Add(appendRoute(nil, &policy.Route{Table: 1 << 31, Type: policy.Unicast, Gateway: netip.MustParseAddr("1.2.3.4")}, 7))
	f.Fuzz(func(t *testing.T, m []byte) {
		routes, err := decodeRoutes(m, func(uint32) string { return "x" })
		if err != nil {
			return
		}
		if len(routes) == 0 {
			t.Error("no route, and no error")
		}
		for _, r := range routes {
			if !r.Dst.IsValid() || r.Dst != r.Dst.Masked() || r.Ours() && r.Hop != 0 {
				t.Errorf("%+v", r)
			}
		}
	})
}

func FuzzNexthop(f *testing.F) {
	m := appendNumber(make([]byte, sizeofNexthopMessage), unix.NHA_ID, 7)
	m[0] = unix.AF_INET
	f.Add(appendAddress(m, unix.NHA_GATEWAY, netip.MustParseAddr("192.0.2.1")))
	f.Add(appendAttribute(m, unix.NHA_GROUP, 7, 0, 0, 0, 0, 0, 0, 0))
	f.Fuzz(func(t *testing.T, m []byte) {
		n := nexthops{}
		if err := n.decode(m, func(uint32) string { return "x" }); err == nil && len(n) != 1 {
			t.Errorf("%+v", n)
		}
	})
}

func FuzzAnswers(f *testing.F) {
	header := make([]byte, 36)
	header[0], header[4], header[8], header[16] = 36, 2, 1, 0xff
	f.Add(header)
	f.Fuzz(func(t *testing.T, b []byte) {
		errs := make([]error, 3)
		last, err := answers(b, 1, errs)
		if last && err != nil || len(b) < 36 && (last || errs[0] != nil) {
			t.Errorf("%t, %v, %v", last, err, errs)
		}
	})
}

func FuzzLink(f *testing.F) {
	m := appendName(make([]byte, unix.SizeofIfInfomsg), unix.IFLA_IFNAME, "wg0")
	f.Add(appendNumber(m, unix.IFLA_GROUP, 77))
	f.Add(appendAttribute(m, unix.IFLA_LINKINFO, appendName(nil, unix.IFLA_INFO_KIND, "wireguard")...))
	f.Fuzz(func(t *testing.T, m []byte) {
		l, _, _, err := decodeLink(m)
		if err == nil && l.WireGuard != (l.Kind == "wireguard") {
			t.Errorf("%+v", l)
		}
	})
}

func FuzzAddress(f *testing.F) {
	m := make([]byte, unix.SizeofIfAddrmsg)
	m[0], m[1] = unix.AF_INET, 24
	f.Add(appendAddress(m, unix.IFA_LOCAL, netip.MustParseAddr("192.0.2.1")))
	other := make([]byte, unix.SizeofIfAddrmsg)
	other[0], other[1] = unix.AF_INET6, 64
	f.Add(appendAddress(other, unix.IFA_ADDRESS, netip.MustParseAddr("192.0.2.1")))
	f.Fuzz(func(t *testing.T, m []byte) {
		a, ok, err := decodeAddress(m, func(uint32) string { return "x" })
		if ok && (err != nil || !a.Prefix.IsValid() || a.Device != "x" || a.Broadcast.IsValid() && a.Broadcast.Is4() != a.Prefix.Addr().Is4()) {
			t.Errorf("%+v, %v", a, err)
		}
	})
}

func FuzzNotice(f *testing.F) {
	route := make([]byte, headerSize)
	route[0], route[1], route[4] = unix.AF_INET6, 64, unix.RT_TABLE_MAIN
	f.Add(uint16(unix.RTM_NEWROUTE), appendNumber(route, unix.RTA_TABLE, 1000))
	rule := make([]byte, headerSize)
	rule[0] = 128 // RTNL_FAMILY_IPMR
	f.Add(uint16(unix.RTM_DELRULE), rule)
	f.Add(uint16(unix.RTM_NEWLINK), appendName(make([]byte, unix.SizeofIfInfomsg), unix.IFLA_IFNAME, "wg0"))
	f.Fuzz(func(t *testing.T, kind uint16, m []byte) {
		n, err := ReadNotice(kind, m)
		if n.Gone && n.Subject == OtherSubject || err == nil && n.Subject == RuleSubject && n.Rule.Family > fwmark.IPv6 {
			t.Errorf("%+v, %v", n, err)
		}
	})
}
