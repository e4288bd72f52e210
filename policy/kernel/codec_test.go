package kernel

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"wg-multihome/fwmark"
	"wg-multihome/policy"
)

// encoded is what encoding sends, behind nlmsghdr: the form in which the kernel
// answers as well.
func encoded(header *nl.RtMsg, attrs []*nl.RtAttr) []byte {
	m := header.Serialize()
	for _, a := range attrs {
		m = append(m, a.Serialize()...)
	}
	return m
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
		got, err := decodeRule(encoded(encodeRule(r)))
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
		index := rapid.Uint32Min(1).Draw(t, "index")
		got, err := decodeRoute(encoded(encodeRoute(r, index)), func(i uint32) string {
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
	for name, change := range map[string]func(*nl.RtMsg, []*nl.RtAttr) (*nl.RtMsg, []*nl.RtAttr){
		"an unknown attribute": func(h *nl.RtMsg, a []*nl.RtAttr) (*nl.RtMsg, []*nl.RtAttr) {
			return h, append(a, nl.NewRtAttr(99, []byte{1}))
		},
		"l3mdev": func(h *nl.RtMsg, a []*nl.RtAttr) (*nl.RtMsg, []*nl.RtAttr) {
			return h, append(a, nl.NewRtAttr(19, []byte{1}))
		},
		"ports": func(h *nl.RtMsg, a []*nl.RtAttr) (*nl.RtMsg, []*nl.RtAttr) {
			return h, append(a, nl.NewRtAttr(nl.FRA_DPORT_RANGE, []byte{7, 0, 7, 0}))
		},
		"type of service": func(h *nl.RtMsg, a []*nl.RtAttr) (*nl.RtMsg, []*nl.RtAttr) { h.Tos = 4; return h, a },
		"a short number": func(h *nl.RtMsg, a []*nl.RtAttr) (*nl.RtMsg, []*nl.RtAttr) {
			return h, append(a, nl.NewRtAttr(nl.FRA_FWMARK, []byte{1, 2}))
		},
		"a length without its address": func(h *nl.RtMsg, a []*nl.RtAttr) (*nl.RtMsg, []*nl.RtAttr) { h.Src_len = 24; return h, a },
	} {
		r, err := decodeRule(encoded(change(encodeRule(plain))))
		if err != nil || !r.Opaque || r.Ours() {
			t.Errorf("%s: %+v, %v", name, r, err)
		}
	}
	if r, err := decodeRule(encoded(encodeRule(plain))); err != nil || r != plain {
		t.Errorf("a plain one: %+v, %v", r, err)
	}
}

func TestMarkWithoutMaskHasTheFullOne(t *testing.T) {
	h := &nl.RtMsg{RtMsg: unix.RtMsg{Family: unix.AF_INET, Type: 7}}
	r, err := decodeRule(encoded(h, []*nl.RtAttr{nl.NewRtAttr(nl.FRA_FWMARK, nl.Uint32Attr(5))}))
	if err != nil || r.Mark != (fwmark.Mark{Value: 5, Mask: fwmark.FullMask}) {
		t.Errorf("%+v, %v", r, err)
	}
}

func FuzzRule(f *testing.F) {
	f.Add(encoded(encodeRule(policy.Rule{Priority: 5, Action: policy.Lookup, Table: 1 << 31, Mark: fwmark.Mark{Value: 1, Mask: 3}, Iif: "lo"})))
	f.Fuzz(func(t *testing.T, m []byte) {
		r, err := decodeRule(m)
		if err != nil {
			return
		}
		if r.Mark.Mask == 0 && r.Mark.Value != 0 && !r.Opaque || r.From.IsValid() && r.From != r.From.Masked() {
			t.Errorf("%+v", r)
		}
		// What is not opaque is all that was there.
		if again, err := decodeRule(encoded(encodeRule(r))); !r.Opaque && r.Mark.Mask != 0 && (err != nil || again != r) {
			t.Errorf("%+v, %v\nwas %+v", again, err, r)
		}
	})
}

func FuzzRoute(f *testing.F) {
	f.Add(encoded(encodeRoute(policy.Route{Table: 1 << 31, Type: policy.Unicast, Gateway: netip.MustParseAddr("1.2.3.4")}, 7)))
	f.Fuzz(func(t *testing.T, m []byte) {
		routes, err := decodeRoute(m, func(uint32) string { return "x" })
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

func FuzzAnswers(f *testing.F) {
	header := make([]byte, 36)
	header[0], header[4], header[8], header[16] = 36, 2, 1, 0xff
	f.Add(header)
	f.Fuzz(func(t *testing.T, b []byte) {
		errs := make([]error, 3)
		last, err := answers(b, errs)
		if last && err != nil || len(b) < 36 && (last || errs[0] != nil) {
			t.Errorf("%t, %v, %v", last, err, errs)
		}
	})
}
