package socket

import (
	"flag"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"wg-multihome/fwmark"
)

var update = flag.Bool("update", false, "write testdata anew")

// TestPrograms has the programs as text: of a plain mark, and of one under a mask.
// Where they change their names must change, too.
func TestPrograms(t *testing.T) {
	var b strings.Builder
	for _, text := range []string{"0x2005", "0x2000/0xff00"} {
		m, err := fwmark.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		for _, place := range Places {
			b.WriteString("mark " + text + ": " + ProgramFor(place, m).String() + "\n")
		}
	}
	const file = "testdata/programs"
	if *update {
		if err := os.WriteFile(file, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if diff := cmp.Diff(string(want), b.String()); err != nil || diff != "" {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
}

func anyMark(t *rapid.T) fwmark.Mark {
	full := rapid.Bool().Draw(t, "plain")
	m := fwmark.Mark{Mask: fwmark.FullMask}
	if !full {
		m.Mask = rapid.Uint32Min(1).Draw(t, "mask")
	}
	m.Value = rapid.Uint32().Draw(t, "value") & m.Mask
	if m.Value == 0 {
		m.Value = m.Mask &^ (m.Mask - 1)
	}
	return m
}

// TestNames: the kernel takes each name, and a mark is read back from it.
func TestNames(t *testing.T) {
	const allowed = digits62 + "_."
	rapid.Check(t, func(t *rapid.T) {
		m := anyMark(t)
		p := ProgramFor(rapid.SampledFrom(Places[:]).Draw(t, "place"), m)
		name := p.Name()
		if len(name) > 15 || strings.Trim(name, allowed) != "" {
			t.Errorf("%q is not a name", name)
		}
		if got, ok := markOf(name); got != m || !ok {
			t.Errorf("%q has %s, %v; want %s", name, got, ok, m)
		}
	})
}

func TestNamesOfOthers(t *testing.T) {
	for _, name := range []string{
		"", "x", "wgmh", "wgmhQ", "wgmhQ7", "wgmhQ7_", "wgmhQ7_0", "wgmhQ7_02005", "wgmhQ7_2G", "wgmhQ7_2A", "wgmhQ7_100000000",
		"wgmhQ7000000000", "wgmhQ700000000", "wgmhQ7zzzzzzzzz", "wgmhQ7zzzz_zzzz", "WGMHQ7_2005", "sd_fw_egress", "wgmhQ7" + encode62(ternary(fwmark.Mark{Value: 1, Mask: fwmark.FullMask}), maskDigits),
	} {
		if m, ok := markOf(name); ok {
			t.Errorf("%q is ours, with %s", name, m)
		}
	}
}

// TestNamesDiffer: programs of two places, and of two marks, have other names.
func TestNamesDiffer(t *testing.T) {
	seen := map[string]bool{}
	for _, m := range []fwmark.Mark{{Value: 1, Mask: fwmark.FullMask}, {Value: 1, Mask: 1}, {Value: 1, Mask: 3}, {Value: 2, Mask: 3}} {
		for _, place := range []Place{Listen, Connect4, Create} {
			name := ProgramFor(place, m).Name()
			if seen[name] {
				t.Errorf("%s twice", name)
			}
			seen[name] = true
		}
	}
}
