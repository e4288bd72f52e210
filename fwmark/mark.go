package fwmark

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// FullMask covers all 32 bits of a packet's mark.
const FullMask = 0xffffffff

// Mark selects packets: those whose mark has Value in the bits of Mask. The
// zero Mark selects nothing and stands for "no mark"; ip-rule(8) and the
// kernel's net/core/fib_rules.c have the same pair.
type Mark struct {
	Value uint32
	Mask  uint32
}

// Parse reads a mark as it stands in a configuration: a number (0x2005, 8197,
// 020005) or a number under a mask (0x2000/0xff00). It refuses what is no
// number, 0, more than 32 bits, and a value with bits outside its mask.
func Parse(s string) (Mark, error) {
	value, mask, masked := strings.Cut(s, "/")
	m := Mark{Mask: FullMask}
	var err error
	if m.Value, err = parse32(value); err != nil {
		return Mark{}, fmt.Errorf("mark %q %w", s, err)
	}
	if masked {
		if m.Mask, err = parse32(mask); err != nil {
			return Mark{}, fmt.Errorf("mask of mark %q %w", s, err)
		}
	}
	if err := m.check(); err != nil {
		return Mark{}, fmt.Errorf("mark %q %w", s, err)
	}
	return m, nil
}

func parse32(s string) (uint32, error) {
	v, err := strconv.ParseUint(s, 0, 32)
	switch {
	case errors.Is(err, strconv.ErrRange):
		return 0, errors.New("does not fit 32 bits")
	case err != nil, strings.Contains(s, "_"):
		return 0, errors.New("is not a number")
	}
	return uint32(v), nil
}

func (m Mark) check() error {
	switch {
	case m.Value == 0:
		return errors.New("is 0, which is what packets without a mark have")
	case m.Value&^m.Mask != 0:
		return errors.New("has bits outside its mask")
	}
	return nil
}

// IsZero reports whether m is no mark at all.
func (m Mark) IsZero() bool { return m == Mark{} }

// String returns the form that Parse reads, in hexadecimal: 0x2005 or
// 0x2000/0xff00.
func (m Mark) String() string {
	if m.Mask == FullMask {
		return fmt.Sprintf("%#x", m.Value)
	}
	return fmt.Sprintf("%#x/%#x", m.Value, m.Mask)
}

// Selects reports whether a packet whose mark has this value is selected.
func (m Mark) Selects(value uint32) bool { return !m.IsZero() && value&m.Mask == m.Value }

// Overlaps reports whether some packet's mark can be both m and n.
func (m Mark) Overlaps(n Mark) bool {
	return (m.Value^n.Value)&m.Mask&n.Mask == 0
}

// Within reports whether every packet that m selects is selected by n too.
func (m Mark) Within(n Mark) bool {
	return n.Mask&^m.Mask == 0 && m.Overlaps(n)
}

// Compare orders marks by value, then by mask.
func (m Mark) Compare(n Mark) int {
	switch {
	case m.Value < n.Value, m.Value == n.Value && m.Mask < n.Mask:
		return -1
	case m == n:
		return 0
	}
	return 1
}
