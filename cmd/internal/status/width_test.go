package status

import (
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"wg-multihome/cmd/internal/screen"
)

// usual is a host as many are: two uplinks with both families, a tunnel and a service.
func usual() Status {
	then, age := time.Unix(1_800_000_000, 0), int64(100)
	return Status{
		Uplinks: []Uplink{
			{Name: "enp1s0", Family: 4, State: "up", Address: "198.51.100.110", Gateway: "198.51.100.101", Table: 3325256814, Leased: true},
			{Name: "enp1s0", Family: 6, State: "up", Address: "2001:db8:1234:5678:9abc:deff:fe12:3456", Gateway: "fe80::9abc:deff:fe12:3456", Table: 3919028321},
			{Name: "enp2s0.5", Family: 4, State: "up", Address: "192.0.2.110", Gateway: "192.0.2.101", Table: 3221226094, Leased: true},
		},
		Marks:    []Mark{{Mark: "0x2005", Uplink: "enp2s0.5", Guarded: true, Routed4: true}},
		Tunnels:  []Tunnel{{Device: "wg0", Uplink: "enp2s0.5", Present: true, Mark: "0x2005", Wanted: "0x2005", Peers: []Peer{{Key: "AbCdEfGh", Endpoint: "203.0.113.113:51820", Handshake: &then, Age: &age, Received: 123456789, Sent: 12345}}}},
		Services: []Service{{Cgroup: "system.slice/transmission-daemon.service", Uplink: "enp2s0.5", Mark: "0x2005", Exists: true, Pinned: true, Marking: "socket"}},
	}
}

func written(t *testing.T, s Status, at screen.Screen) string {
	t.Helper()
	var b strings.Builder
	if err := s.Write(&b, at); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// TestUsualFits80: two uplinks, a tunnel and a service, in a pipe and in a terminal of
// 80 columns.
func TestUsualFits80(t *testing.T) {
	const want = `ok: 2 uplinks, 1 mark, 1 tunnel, 1 service, nothing drifts

UPLINK    STATE  IP  ADDRESS
enp1s0    up     4   198.51.100.110 (lease)
                     gateway 198.51.100.101
                     table 3325256814
enp1s0    up     6   2001:db8:1234:5678:9abc:deff:fe12:3456
                     gateway fe80::9abc:deff:fe12:3456
                     table 3919028321
enp2s0.5  up     4   192.0.2.110 (lease)
                     gateway 192.0.2.101
                     table 3221226094

MARK    UPLINK    GUARDS  IPV4    IPV6
0x2005  enp2s0.5  stand   routed  refused

TUNNEL  UPLINK    MARK    WANTED
wg0     enp2s0.5  0x2005  0x2005

PEER      TUNNEL  ENDPOINT             HANDSHAKE  RECEIVED    SENT
AbCdEfGh  wg0     203.0.113.113:51820  1m40s ago  117.74 MiB  12.06 KiB

SERVICE                                   UPLINK    MARK    CGROUP
system.slice/transmission-daemon.service  enp2s0.5  0x2005  pinned by socket
`
	for _, at := range []screen.Screen{{}, {Width: 80}} {
		if got := written(t, usual(), at); got != want {
			t.Errorf("%+v:\n%s", at, got)
		}
	}
	s := usual()
	s.Uplinks = slices.DeleteFunc(s.Uplinks, func(u Uplink) bool { return u.Family == 6 })
	for _, line := range strings.Split(written(t, s, screen.Screen{}), "\n") {
		if len(line) > 80 || strings.HasPrefix(line, " ") {
			t.Errorf("with IPv4 alone: %q", line)
		}
	}
}

// TestNarrowTerminals: no line is wider than the terminal but where one word is, and
// nothing is lost.
func TestNarrowTerminals(t *testing.T) {
	for name, s := range map[string]Status{"usual": usual(), "each part": example()} {
		all := words(written(t, s, screen.Screen{Width: 1000}))
		for width := 20; width <= 120; width++ {
			text := written(t, s, screen.Screen{Width: width})
			for _, line := range strings.Split(text, "\n") {
				if utf8.RuneCountInString(line) > width && len(strings.Fields(line)) > 1 {
					t.Errorf("%s, %d columns: %q", name, width, line)
				}
			}
			lower := words(text)
			for word := range all {
				if !lower[word] && word != "-" {
					t.Errorf("%s, %d columns: %q is lost:\n%s", name, width, word, text)
				}
			}
		}
	}
}

// words are those of a text, whatever their case: names of columns that are folded are
// in lower case.
func words(text string) map[string]bool {
	all := map[string]bool{}
	for _, w := range strings.Fields(strings.ToLower(text)) {
		all[w] = true
	}
	return all
}

// TestColoursSayNothing: without them the text is the same.
func TestColoursSayNothing(t *testing.T) {
	sequence := regexp.MustCompile("\x1b\\[[0-9;]*m")
	for name, s := range map[string]Status{"usual": usual(), "each part": example()} {
		plain, coloured := written(t, s, screen.Screen{Width: 80}), written(t, s, screen.Screen{Width: 80, Colour: true})
		if coloured == plain {
			t.Errorf("%s: a terminal with colours gets none", name)
		}
		if got := sequence.ReplaceAllString(coloured, ""); got != plain {
			t.Errorf("%s: without colours\n%s\nwant\n%s", name, got, plain)
		}
		if strings.Contains(plain, "\x1b") {
			t.Errorf("%s: a sequence without colours: %q", name, plain)
		}
	}
}
