package socket

import (
	"encoding/binary"
	"hash/fnv"
	"strconv"
	"strings"

	"wg-multihome/fwmark"
)

// A program's name is all that the kernel tells of it that is the same in each
// version: its tag of the same code differs between 6.1 and 6.18, and code that was
// hardened cannot be read back. It has at most 15 letters, digits, `_` and `.`. So
// it says that the program is ours, which code it is, and its mark:
//
//	wgmh48_2005      the plain mark 0x2005
//	wgmhDT00001Yz6x  0x2000/0xff00, in digits of base 62
const (
	ours       = "wgmh"
	hashDigits = 2 // of the code
	plain      = "_"
	maskDigits = 9 // 62⁹ > 3³²
)

// Name is the program's name in the kernel.
func (p Program) Name() string {
	text := plain + strconv.FormatUint(uint64(p.Mark.Value), 16)
	if p.Mark.Mask != fwmark.FullMask {
		text = encode62(ternary(p.Mark), maskDigits)
	}
	return ours + encode62(uint64(p.hash()), hashDigits) + text
}

// hash tells programs apart that differ in anything but their mark's number: two
// versions of ours, with a chance of one in 3,844 to miss it. What each version has
// stands in testdata.
func (p Program) hash() uint32 {
	text := []byte{byte(p.Place)}
	for _, i := range p.Code {
		text = append(text, i.Op, byte(i.Dst), byte(i.Src))
		text = binary.LittleEndian.AppendUint16(text, uint16(i.Off))
		text = binary.LittleEndian.AppendUint32(text, uint32(i.Imm))
	}
	h := fnv.New32a()
	h.Write(text)
	return h.Sum32() % (62 * 62)
}

// markOf returns the mark in the name of a program. ok is false for one that is
// not ours.
func markOf(name string) (m fwmark.Mark, ok bool) {
	text, ok := strings.CutPrefix(name, ours)
	if !ok || len(text) < hashDigits {
		return fwmark.Mark{}, false
	}
	text = text[hashDigits:]
	if hex, is := strings.CutPrefix(text, plain); is {
		value, err := strconv.ParseUint(hex, 16, 32)
		m = fwmark.Mark{Value: uint32(value), Mask: fwmark.FullMask}
		return m, err == nil && value != 0 && strconv.FormatUint(value, 16) == hex
	}
	n, ok := decode62(text)
	if !ok || len(text) != maskDigits {
		return fwmark.Mark{}, false
	}
	m, ok = fromTernary(n)
	return m, ok && m.Value != 0 && m.Mask != fwmark.FullMask
}

// ternary writes each bit of a mark as a digit, the highest first: 0 where it is
// outside of the mask, else 1 or 2.
func ternary(m fwmark.Mark) uint64 {
	n := uint64(0)
	for bit := 31; bit >= 0; bit-- {
		n = 3*n + uint64(m.Mask>>bit&1+m.Value>>bit&1)
	}
	return n
}

func fromTernary(n uint64) (m fwmark.Mark, ok bool) {
	for bit := range 32 {
		switch n % 3 {
		case 1:
			m.Mask |= 1 << bit
		case 2:
			m.Mask |= 1 << bit
			m.Value |= 1 << bit
		}
		n /= 3
	}
	return m, n == 0
}

const digits62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

// encode62 writes a number with that many digits.
func encode62(n uint64, digits int) string {
	text := make([]byte, digits)
	for i := digits - 1; i >= 0; i-- {
		text[i] = digits62[n%62]
		n /= 62
	}
	return string(text)
}

// decode62 is its reverse, for as many digits as fit a number.
func decode62(text string) (n uint64, ok bool) {
	if len(text) > maskDigits {
		return 0, false
	}
	for i := range len(text) {
		digit := strings.IndexByte(digits62, text[i])
		if digit < 0 {
			return 0, false
		}
		n = 62*n + uint64(digit)
	}
	return n, true
}
