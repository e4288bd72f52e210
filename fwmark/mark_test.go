package fwmark

import (
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestParse(t *testing.T) {
	for text, want := range map[string]Mark{
		"0x2005": {0x2005, FullMask}, "8197": {0x2005, FullMask}, "0x2000/0xff00": {0x2000, 0xff00},
		"4294967295": {0xffffffff, FullMask}, "1/1": {1, 1},
	} {
		if got, err := Parse(text); err != nil || got != want {
			t.Errorf("%s: %v, %v", text, got, err)
		}
	}
	for text, say := range map[string]string{
		"": "is not a number", "abc": "is not a number", "-1": "is not a number", "1_0": "is not a number", "0x2005 ": "is not a number",
		"0": "is 0", "0/0xff": "is 0", "4294967296": "does not fit 32 bits", "1/4294967296": "does not fit 32 bits",
		"0x2005/0xff": "has bits outside its mask", "1/": "is not a number", "1/2/3": "is not a number",
	} {
		if got, err := Parse(text); err == nil || !strings.Contains(err.Error(), say) || text != "" && !strings.Contains(err.Error(), text) {
			t.Errorf("%q: %v, %v, want %q", text, got, err, say)
		}
	}
}

func drawMark(t *rapid.T, name string) Mark {
	mask := rapid.Uint32Min(1).Draw(t, name+" mask")
	return Mark{Value: rapid.Uint32().Draw(t, name) & mask, Mask: mask}
}

// TestMarksAsPackets compares what marks say of each other with what packets
// they select.
func TestMarksAsPackets(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := drawMark(t, "a"), drawMark(t, "b")
		small := rapid.Bool().Draw(t, "small")
		if small { // so that all packets can be tried
			a, b = Mark{a.Value & a.Mask & 15, a.Mask & 15}, Mark{b.Value & b.Mask & 15, b.Mask & 15}
			both, outside := false, false
			for p := range uint32(16) {
				inA, inB := p&a.Mask == a.Value, p&b.Mask == b.Value
				if a.Selects(p) != (inA && !a.IsZero()) {
					t.Fatalf("%v selects %d: %t", a, p, a.Selects(p))
				}
				both = both || inA && inB
				outside = outside || inA && !inB
			}
			if a.Overlaps(b) != both || a.Within(b) == outside {
				t.Fatalf("%v and %v: overlaps %t, within %t", a, b, a.Overlaps(b), a.Within(b))
			}
		}
		if a.Overlaps(b) != b.Overlaps(a) || a.Within(b) && !a.Overlaps(b) || !a.Within(a) {
			t.Fatalf("%v and %v", a, b)
		}
		if (a.Compare(b) == 0) != (a == b) || a.Compare(b) != -b.Compare(a) {
			t.Fatalf("%v compares with %v as %d", a, b, a.Compare(b))
		}
		if a.Value != 0 {
			if again, err := Parse(a.String()); err != nil || again != a {
				t.Fatalf("%s reads back as %v, %v", a, again, err)
			}
		}
	})
}

func FuzzParse(f *testing.F) {
	f.Add("0x2000/0xff00")
	f.Add("-0")
	f.Fuzz(func(t *testing.T, s string) {
		m, err := Parse(s)
		if err == nil && (m.Value == 0 || m.Value&^m.Mask != 0) {
			t.Errorf("%q is %v", s, m)
		}
		if again, err2 := Parse(m.String()); err == nil && (err2 != nil || again != m) {
			t.Errorf("%q is %v, and that %v, %v", s, m, again, err2)
		}
	})
}
