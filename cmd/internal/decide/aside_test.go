package decide

import "testing"

// TestMayBeAside tells numbers that are found for what is set aside from others.
func TestMayBeAside(t *testing.T) {
	for name, c := range map[string]struct {
		mark string
		of   uint32 // the mask
		want bool
	}{
		"the highest":                {"0xffffffff", 0xffffffff, true},
		"the last that is tried":     {"0xfffff000", 0xffffffff, true},
		"the one below":              {"0xffffefff", 0xffffffff, false},
		"wg-quick's":                 {"0xca6c", 0xffffffff, false},
		"wg-quick's, beside a mask":  {"0xca6c", 0xf00, false},
		"others', of one bit":        {"0x4000", 0xf00, false},
		"any of few":                 {"0x100/0xf00", 0xf00, true},
		"beside a mask of one bit":   {"0x80000000/0x80000002", 2, true},
		"a number with others' bits": {"0x80000002/0x80000002", 2, false},
		"of another mask":            {"0x40/0xf0", 0xf00, false},
	} {
		if got := mayBeAside(mustMark(t, c.mark), c.of); got != c.want {
			t.Errorf("%s: %t", name, got)
		}
	}
	for _, mask := range []uint32{0xf00, 0x80000001, 0xffffffff, 2} {
		for n := uint32(0); uint64(n) <= min(highestUnder(mask), 100); n++ {
			if got := extract(deposit(n, mask), mask); got != n {
				t.Errorf("%d under %#x comes back as %d", n, mask, got)
			}
		}
	}
}
