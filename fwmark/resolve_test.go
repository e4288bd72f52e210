package fwmark

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func full(value uint32) Mark { return Mark{value, FullMask} }

func pinned(uplink string, mark Mark, more ...string) Intent {
	in := Intent{Uplink: uplink, Origin: "file: " + uplink, Mark: mark}
	for _, m := range more {
		if strings.HasPrefix(m, "wg") {
			in.Devices = append(in.Devices, m)
		} else {
			in.Cgroups = append(in.Cgroups, m)
		}
	}
	return in
}

// text shows pins, one to a line: mark, uplink, what carries it.
func text(pins []Pin) string {
	var b strings.Builder
	for _, p := range pins {
		fmt.Fprintf(&b, "%s %s", p.Mark, p.Uplink)
		for _, c := range slices.Concat(p.Devices, p.Cgroups) {
			fmt.Fprintf(&b, " %s", c)
		}
		if p.Full {
			b.WriteString(" full")
		}
		if p.Kept {
			b.WriteString(" kept")
		}
		b.WriteString("\n")
	}
	return b.String()
}

func TestResolve(t *testing.T) {
	refused := Problem{Text: "elsewhere"}
	tables := map[uint32]netip.Addr{16909060: netip.MustParseAddr("1.2.3.4")}
	for name, c := range map[string]struct {
		intents  []Intent
		problems []Problem
		standing []Claim
		tunnels  []Tunnel
		want     string
		say      []string // in the problems found here, each in its own
	}{
		"each mark is a pin": {
			intents: []Intent{pinned("up2", full(2), "wg0", "a.service"), pinned("up1", Mark{0x100, 0xff00}), {Uplink: "up3"}},
			want:    "0x2 up2 wg0 a.service\n0x100/0xff00 up1\n",
		},
		"what stands and is configured no longer goes": {
			intents: []Intent{pinned("up1", full(1))}, standing: []Claim{{Mark: full(1), Uplink: "up1"}, {Mark: full(2), Uplink: "up2"}},
			want: "0x1 up1\n",
		},
		"while there is an error it stays": {
			intents: []Intent{pinned("up1", full(1), "wg0")}, problems: []Problem{refused},
			standing: []Claim{{Mark: full(2), Uplink: "up2"}, {Mark: full(3), Uplink: ""}},
			want:     "0x1 up1 wg0\n0x2 up2 kept\n0x3  kept\n",
		},
		"a mark that moves in a valid stanza moves, error or not": {
			intents: []Intent{pinned("up1", full(1))}, problems: []Problem{refused}, standing: []Claim{{Mark: full(1), Uplink: "up2"}},
			want: "0x1 up1\n",
		},
		"two uplinks claim one mark": {
			intents: []Intent{pinned("up1", full(1), "wg0"), pinned("up2", full(1), "wg1"), pinned("up3", full(3))}, standing: []Claim{{Mark: full(1), Uplink: "up2"}},
			want: "0x1 up2 kept\n0x3 up3\n", say: []string{`"up1"`},
		},
		"at boot a contested mark has guards alone": {
			intents: []Intent{pinned("up1", full(1)), pinned("up2", full(1))},
			want:    "0x1  kept\n", say: []string{`"up2"`},
		},
		"marks that one packet can carry": {
			intents: []Intent{pinned("up1", full(0x2005)), pinned("up2", Mark{0x2000, 0xff00})},
			want:    "0x2000/0xff00  kept\n0x2005  kept\n", say: []string{"0x2005"},
		},
		"a mark whose stanza no interface has now": {
			intents: []Intent{pinned("up1", full(1)), {Uplink: "", Origin: "file: shadowed", Mark: full(7)}},
			want:    "0x1 up1\n0x7 \n",
		},
		"options in two files": {
			intents: []Intent{pinned("up1", full(1), "wg0"), {Uplink: "up1", Origin: "other", Mark: full(2)}},
			want:    "0x1  kept\n0x2  kept\n", say: []string{"file: up1 and other"},
		},
		"a device claimed twice is nobody's": {
			intents: []Intent{pinned("up1", full(1), "wg0", "wg1"), pinned("up2", full(2), "wg0")},
			want:    "0x1 up1 wg1\n0x2 up2\n", say: []string{`WireGuard device "wg0"`},
		},
		"a cgroup claimed twice is nobody's": {
			intents: []Intent{pinned("up1", full(1), "a.service"), pinned("up2", full(2), "a.service", "b.service")},
			want:    "0x1 up1\n0x2 up2 b.service\n", say: []string{`cgroup "a.service"`},
		},
		"devices without a mark": {
			intents: []Intent{{Uplink: "up1", Origin: "file: up1", Devices: []string{"wg0"}, Cgroups: []string{"a.service"}}},
			want:    "", say: []string{`"wg0", "a.service" without a fwmark`},
		},
		"an empty list of cgroups without a mark": {
			intents: []Intent{{Uplink: "up1", Origin: "file: up1", Cgroups: []string{}}},
			want:    "", say: []string{"pins services without a fwmark"},
		},
		"an empty list of cgroups is an option": {
			intents: []Intent{{Uplink: "up1", Origin: "file: up1", Mark: full(1)}, {Uplink: "up1", Origin: "other", Cgroups: []string{}}},
			want:    "0x1  kept\n", say: []string{"file: up1 and other"},
		},
		"a device that lists itself": {
			intents: []Intent{pinned("wg0", full(1), "wg0", "wg1", "a.service"), pinned("up2", full(2), "wg2")},
			want:    "0x1 wg0 wg1 a.service\n0x2 up2 wg2\n", say: []string{`file: wg0 pins WireGuard device "wg0" to itself`},
		},
		"two devices that list each other": {
			intents: []Intent{pinned("wg1", full(1), "wg0", "wg9"), pinned("wg0", full(2), "wg1")},
			want:    "0x1 wg1 wg9\n0x2 wg0\n",
			say:     []string{`WireGuard devices are pinned in a circle: "wg0" to "wg1" (file: wg1), "wg1" to "wg0" (file: wg0)`},
		},
		"a circle of three, one that leads into it, and another circle": {
			intents: []Intent{
				pinned("wg1", full(1), "wg2"), pinned("wg2", full(2), "wg3"), pinned("wg3", full(3), "wg1", "wg4"), pinned("wg4", full(4), "wg5"),
				pinned("wg8", full(8), "wg8"),
			},
			want: "0x1 wg1\n0x2 wg2\n0x3 wg3 wg4\n0x4 wg4 wg5\n0x8 wg8\n",
			say: []string{
				`"wg1" to "wg3" (file: wg3), "wg3" to "wg2" (file: wg2), "wg2" to "wg1" (file: wg1)`,
				`file: wg8 pins WireGuard device "wg8" to itself`,
			},
		},
		"a service by the VPN, the VPN by one uplink": {
			intents: []Intent{pinned("wg0", full(7), "a.service"), pinned("wg1", full(8), "wg0"), pinned("up2", full(2), "wg1")},
			want:    "0x2 up2 wg1\n0x7 wg0 a.service\n0x8 wg1 wg0\n",
		},
		"what stands stays while a device lists itself": {
			intents: []Intent{pinned("wg0", full(1), "wg0")}, standing: []Claim{{Mark: full(2), Uplink: "up2"}, {Mark: full(1), Uplink: "up1"}},
			tunnels: []Tunnel{{"wg0", full(0xca6c)}},
			want:    "0x1 wg0\n0x2 up2 kept\n", say: []string{"to itself"},
		},
		"a mark that is a table": {
			intents: []Intent{pinned("up1", full(16909060)), pinned("up2", full(2))}, standing: []Claim{{Mark: full(16909060), Uplink: "up1"}},
			want: "0x2 up2\n0x1020304 up1 kept\n", say: []string{"the table of address 1.2.3.4"},
		},
		"a pinned full tunnel keeps its mark": {
			intents: []Intent{pinned("up1", full(1), "wg0", "wg1"), pinned("up2", full(2), "wg2")},
			tunnels: []Tunnel{{"wg0", full(0xca6c)}, {"wg2", full(0xca6d)}, {"wg9", full(0xca6e)}},
			want:    "0x1 up1 wg1\n0x2 up2\n0xca6c up1 wg0 full\n0xca6d up2 wg2 full\n",
		},
		"two full tunnels of one uplink and one mark": {
			intents: []Intent{pinned("up1", full(1), "wg0", "wg1")},
			tunnels: []Tunnel{{"wg0", full(0xca6c)}, {"wg1", full(0xca6c)}},
			want:    "0x1 up1\n0xca6c up1 wg0 wg1 full\n",
		},
		"a full tunnel with two marks has the first": {
			intents: []Intent{pinned("up1", full(1), "wg0")},
			tunnels: []Tunnel{{"wg0", full(0xca6d)}, {"wg0", full(0xca6c)}},
			want:    "0x1 up1\n0xca6c up1 full\n0xca6d up1 wg0 full\n",
		},
		"a full tunnel with its uplink's mark": {
			intents: []Intent{pinned("up1", full(1), "wg0")},
			tunnels: []Tunnel{{"wg0", full(1)}},
			want:    "0x1 up1 wg0\n",
		},
		"a full tunnel with the number of its uplink's mark under a mask": {
			intents: []Intent{pinned("up1", Mark{0x100, 0xff00}, "wg0", "wg1")},
			tunnels: []Tunnel{{"wg0", full(0x100)}, {"wg1", full(0x101)}},
			want:    "0x100/0xff00 up1 wg0\n0x101 up1 wg1 full\n",
		},
		"two full tunnels of two uplinks and one mark": {
			intents: []Intent{pinned("up1", full(1), "wg0"), pinned("up2", full(2), "wg1")},
			tunnels: []Tunnel{{"wg0", full(0xca6c)}, {"wg1", full(0xca6c)}},
			want:    "0x1 up1\n0x2 up2 wg1\n0xca6c up1 wg0 full\n", say: []string{`full tunnel "wg1" can match packets of another one's`},
		},
		"a full tunnel whose mark is another uplink's": {
			intents: []Intent{pinned("up1", full(1), "wg0"), pinned("up2", Mark{0xca00, 0xff00})},
			tunnels: []Tunnel{{"wg0", full(0xca6c)}},
			want:    "0x1 up1 wg0\n0xca00/0xff00 up2\n", say: []string{`full tunnel "wg0" can match packets of mark 0xca00/0xff00`},
		},
		"a full tunnel whose mark is a table": {
			intents: []Intent{pinned("up1", full(1), "wg0")}, tunnels: []Tunnel{{"wg0", full(16909060)}},
			want: "0x1 up1 wg0\n", say: []string{"the table of address 1.2.3.4, so it gets mark 0x1"},
		},
		"a full tunnel of a contested mark is as much in doubt": {
			intents: []Intent{pinned("up1", full(1), "wg0"), pinned("up2", full(1))}, standing: []Claim{{Mark: full(0xca6c), Uplink: "up1"}},
			tunnels: []Tunnel{{"wg0", full(0xca6c)}},
			want:    "0x1  kept\n0xca6c up1 kept\n", say: []string{`"up2"`},
		},
		"a full tunnel that went is kept while there is an error": {
			intents: []Intent{pinned("up1", full(1), "wg0")}, problems: []Problem{refused}, standing: []Claim{{Mark: full(0xca6c), Uplink: "up1"}},
			want: "0x1 up1 wg0\n0xca6c up1 kept\n",
		},
		"a full tunnel is there while there is an error": {
			intents: []Intent{pinned("up1", full(1), "wg0"), pinned("up2", Mark{0xca6c, 0xfffe})}, problems: []Problem{refused}, standing: []Claim{{Mark: full(0xca6c), Uplink: "up1"}},
			tunnels: []Tunnel{{"wg0", full(0xca6c)}},
			want:    "0x1 up1 wg0\n0xca6c/0xfffe  kept\n0xca6c up1 kept\n", say: []string{"so it gets mark 0x1", "which stands and is kept"},
		},
		"a new mark over one that is kept": {
			intents: []Intent{pinned("up1", Mark{0x2000, 0xff00})}, problems: []Problem{refused}, standing: []Claim{{Mark: full(0x2005), Uplink: "up2"}},
			want: "0x2000/0xff00  kept\n0x2005 up2 kept\n", say: []string{"which stands and is kept"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			before := fmt.Sprintf("%+v", c.intents)
			pins, problems := Resolve(c.intents, c.problems, c.standing, tables, c.tunnels)
			if got := text(pins); got != c.want {
				t.Errorf("pins:\n%swant:\n%s", got, c.want)
			}
			found := problems[len(c.problems):]
			if len(found) != len(c.say) {
				t.Fatalf("problems: %v", found)
			}
			for i, say := range c.say {
				if !strings.Contains(found[i].Text, say) {
					t.Errorf("problem %q lacks %q", found[i].Text, say)
				}
			}
			if after := fmt.Sprintf("%+v", c.intents); after != before {
				t.Errorf("the intents were changed:\n%s\n%s", before, after)
			}
		})
	}
}

// TestCircles: none is left, whatever the intents; and but for them nothing goes.
func TestCircles(t *testing.T) {
	names := []string{"wg0", "wg1", "wg2", "wg3", "wg4", "up1"}
	rapid.Check(t, func(t *rapid.T) {
		intents := make([]Intent, len(names))
		by := map[string]string{} // a device's uplink
		for i, name := range names {
			intents[i] = pinned(name, full(uint32(1+i)))
		}
		for _, device := range names[:5] {
			if i := rapid.IntRange(0, len(names)).Draw(t, "who lists "+device); i < len(names) {
				intents[i].Devices = append(intents[i].Devices, device)
				by[device] = names[i]
			}
		}
		pins, problems := Resolve(intents, nil, nil, nil, nil)
		left := map[string]string{}
		for _, p := range pins {
			for _, device := range p.Devices {
				left[device] = p.Uplink
			}
		}
		circle := false
		for device, uplink := range by {
			at := uplink
			for range names {
				if at != device {
					at = by[at]
				}
			}
			circle = circle || at == device
			if want := map[bool]string{true: "", false: uplink}[at == device]; left[device] != want {
				t.Errorf("%v: %q is pinned to %q, want %q", by, device, left[device], want)
			}
		}
		if circle != (len(problems) > 0) {
			t.Errorf("%v: problems %v", by, problems)
		}
	})
}

// TestEmptyListOfCgroups: it switches services on, as no list does not.
func TestEmptyListOfCgroups(t *testing.T) {
	for name, c := range map[string]struct {
		cgroups, others []string
		isNil           bool
	}{
		"none":                   {nil, nil, true},
		"empty":                  {[]string{}, nil, false},
		"emptied by a collision": {[]string{"a"}, []string{"a"}, false},
	} {
		pins, _ := Resolve([]Intent{
			{Uplink: "up1", Mark: full(1), Cgroups: c.cgroups},
			{Uplink: "up2", Mark: full(2), Cgroups: c.others},
		}, nil, nil, nil, nil)
		if got := pins[0].Cgroups; (got == nil) != c.isNil || len(got) != 0 {
			t.Errorf("%s: %#v", name, got)
		}
	}
}
