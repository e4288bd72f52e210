package policy_test

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"

	"wg-multihome/fwmark"
	"wg-multihome/policy"
	"wg-multihome/policy/policytest"
)

// scene is a host in words, one fact to a line:
//
//	link up1 [down] [p2p] [wireguard] [loopback] [vrf red] [group 77]
//	addr up1 192.0.2.10/24 [deprecated] [temporary] [unready] [link]
//	lease up2 198.51.100.10 [198.51.100.1]
//	route 4 main default via 192.0.2.1 dev up1 [proto 77] [hop 1]
//	rule 4 100 not fwmark 0xca6c lookup 51820 [proto 77] [opaque]
//	stanza up1 192.0.2.1 [for 192.0.2.10]
//	pin 0x2005 up2 [gateway 198.51.100.1] [device wg0] [source 2001:db8:5::/56]
//	through up2 198.51.100.0/24
//	vrf: no look-up of the local table in front
//	group 5
//	device wg0 0xca6c
//	broken
//	priority 20000
type scene struct {
	facts    policy.Facts
	intents  []fwmark.Intent
	problems []fwmark.Problem
	priority uint32
	devices  map[string]uint32 // WireGuard devices and their marks
}

func readScene(t *testing.T, text string) scene {
	t.Helper()
	s := scene{priority: policy.DefaultPriority, devices: map[string]uint32{}, facts: policy.Facts{Families: [2]bool{true, true}}}
	if !strings.Contains(text+"\n", "vrf\n") {
		s.facts.Rules = localRules()
	}
	for _, line := range strings.Split(strings.TrimSpace(text), "\n") {
		if line = strings.TrimSpace(line); line != "" {
			s.read(t, line)
		}
	}
	return s
}

// cut takes "word NUMBER", or the bare word, off the end of a line.
func cut(line, word string) (rest, value string, found bool) {
	rest, value, found = strings.Cut(line, " "+word)
	return strings.TrimSpace(rest), strings.TrimSpace(value), found
}

func (s *scene) read(t *testing.T, line string) {
	t.Helper()
	words := strings.Fields(line)
	has := func(w string) bool { return strings.Contains(line+" ", " "+w+" ") }
	f := &s.facts
	switch words[0] {
	case "link":
		l := policy.Link{Name: words[1], Up: !has("down"), PointToPoint: has("p2p"), WireGuard: has("wireguard"), Loopback: has("loopback")}
		line, group, ok := cut(line, "group")
		if ok {
			l.Group = number(t, group)
		}
		_, l.VRF, _ = cut(line, "vrf")
		f.Links = append(f.Links, l)
	case "group":
		f.Group = number(t, words[1])
	case "through":
		s.intents = append(s.intents, fwmark.Intent{Uplink: words[1], Origin: "scene", Through: []netip.Prefix{netip.MustParsePrefix(words[2])}})
	case "vrf":
	case "addr":
		f.Addrs = append(f.Addrs, policy.Address{
			Device: words[1], Prefix: netip.MustParsePrefix(words[2]), Global: !has("link"),
			Deprecated: has("deprecated"), Temporary: has("temporary"), Unready: has("unready"),
		})
	case "lease":
		l := policy.Lease{Device: words[1], Address: netip.MustParseAddr(words[2])}
		if len(words) > 3 {
			l.Gateway = netip.MustParseAddr(words[3])
		}
		f.Leases = append(f.Leases, l)
	case "route", "rule":
		s.readObject(t, line)
	case "stanza":
		in := fwmark.Intent{Uplink: words[1], Origin: "scene"}
		gw := netip.MustParseAddr(words[2])
		if has("for") {
			in.AddressGateways = map[netip.Addr]netip.Addr{netip.MustParseAddr(words[4]): gw}
		} else {
			in.StanzaGateways[fwmark.FamilyOf(gw)] = gw
		}
		s.intents = append(s.intents, in)
	case "pin":
		in := fwmark.Intent{Uplink: words[2], Origin: "scene"}
		var err error
		if in.Mark, err = fwmark.Parse(words[1]); err != nil {
			t.Fatal(err)
		}
		line, prefix, ok := cut(line, "source")
		if ok {
			in.Sources = []netip.Prefix{netip.MustParsePrefix(prefix)}
		}
		line, device, ok := cut(line, "device")
		if ok {
			in.Devices = []string{device}
		}
		if _, gw, ok := cut(line, "gateway"); ok {
			addr := netip.MustParseAddr(gw)
			in.Gateways[fwmark.FamilyOf(addr)] = addr
		}
		s.intents = append(s.intents, in)
	case "device":
		s.devices[words[1]] = number(t, words[2])
	case "without":
		f.Families[map[string]fwmark.Family{"4": fwmark.IPv4, "6": fwmark.IPv6}[words[1]]] = false
	case "broken":
		s.problems = append(s.problems, fwmark.Problem{Text: "broken"})
	case "priority":
		s.priority = number(t, words[1])
	default:
		t.Fatalf("scene: %q", line)
	}
}

func number(t *testing.T, text string) uint32 {
	t.Helper()
	n, err := strconv.ParseUint(text, 0, 32)
	if err != nil {
		t.Fatal(err)
	}
	return uint32(n)
}

func (s *scene) readObject(t *testing.T, line string) {
	t.Helper()
	line, hop, _ := cut(line, "hop")
	line, _, opaque := cut(line, "opaque")
	line, proto, _ := cut(line, "proto")
	step, err := policytest.ParseStep("- " + line)
	if err != nil {
		t.Fatalf("%s: %v", line, err)
	}
	number, _ := strconv.Atoi(proto) // "" is 0
	if step.IsRoute {
		step.Route.Protocol = uint8(number)
		step.Route.Hop, _ = strconv.Atoi(hop)
		s.facts.Routes = append(s.facts.Routes, step.Route)
		return
	}
	step.Rule.Protocol, step.Rule.Opaque = uint8(number), opaque
	s.facts.Rules = append(s.facts.Rules, step.Rule)
}

// plan says what follows: the steps, what stands in front, errors.
func (s *scene) plan() string {
	var b strings.Builder
	broken := len(s.problems) > 0
	uplinks, errs := policy.Uplinks(s.facts, s.intents, broken)
	pins, problems := fwmark.Resolve(s.intents, s.problems, policy.Standing(s.facts), nil, policy.Tunnels(s.facts, s.devices))
	w := policy.Want(s.facts, uplinks, pins, s.priority)
	plan := policy.Diff(w.Have, w.State)
	for _, step := range append(plan.Open, plan.Close...) {
		fmt.Fprintln(&b, step)
	}
	for _, f := range w.Fronts {
		fmt.Fprintln(&b, "front:", f)
	}
	for _, l := range w.OtherGroups {
		fmt.Fprintln(&b, "others' group:", l)
	}
	for _, l := range w.Destinations.Left {
		fmt.Fprintln(&b, "left:", l)
	}
	for _, served := range w.Served {
		fmt.Fprintln(&b, "served:", served)
	}
	for _, r := range w.Unasked {
		fmt.Fprintln(&b, "never asked:", r)
	}
	for _, err := range append(errs, w.Errs...) {
		fmt.Fprintln(&b, "error:", err)
	}
	for _, p := range problems {
		fmt.Fprintln(&b, "problem:", p.Text)
	}
	return b.String()
}

// TestScenes reads testdata/scenes/*.txtar: facts in, plan out. With
// UPDATE_SCENES=1 the plans are written anew, to be read before they are kept.
func TestScenes(t *testing.T) {
	files, err := filepath.Glob("testdata/scenes/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scenes: %v", err)
	}
	for _, file := range files {
		a, err := txtar.ParseFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for i := 0; i+1 < len(a.Files); i += 2 {
			facts, want := a.Files[i], &a.Files[i+1]
			t.Run(facts.Name, func(t *testing.T) {
				s := readScene(t, string(facts.Data))
				got := s.plan()
				if os.Getenv("UPDATE_SCENES") != "" {
					want.Data = []byte(got)
				}
				if d := cmp.Diff(string(want.Data), got); d != "" {
					t.Errorf("plan (-want +got):\n%s", d)
				}
			})
		}
		if os.Getenv("UPDATE_SCENES") != "" {
			if err := os.WriteFile(file, txtar.Format(a), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
}
