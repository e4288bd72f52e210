package nft_test

import (
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"

	"wg-multihome/fwmark"
	"wg-multihome/nft"
)

// readFacts reads a host in words, one fact to a line:
//
//	uplink up2 198.51.100.10 2001:db8:2::10    what has no address has no table
//	pin 0x2005 up2 [cgroups a.service b.slice] an uplink of "-" is none
//	going 0x2005 up2                           a mark that goes
//	cgroup a.service 77 2                      path, id, level
//	run 0x2005 99 2                            a slice of `run`: id, level
//	reach 10.0.0.0/8                           behind a longer route of main
//	standing paths_0x2005 77 78                a set of cgroups
//	chain services                             stands, as no run of ours left it
//	unguarded 0x2005
//	broken
//	unseen
func readFacts(t *testing.T, text string) nft.Facts {
	t.Helper()
	f := nft.Facts{
		Cgroups: map[string]nft.Cgroup{}, Runs: map[fwmark.Mark][]nft.Cgroup{}, Unguarded: map[fwmark.Mark]bool{},
		Have: nft.State{Exists: true, Counters: map[string]uint64{}, Sets: map[string]nft.Set{}, Chains: map[string]nft.ChainState{}},
	}
	number := func(s string) uint64 {
		n, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	parse := func(s string) fwmark.Mark {
		m, err := fwmark.Parse(s)
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	for _, line := range strings.Split(strings.TrimSpace(text), "\n") {
		words := strings.Fields(line)
		switch words[0] {
		case "uplink":
			f.Uplinks = append(f.Uplinks, uplink(words[1], words[2:]))
		case "pin":
			p := fwmark.Pin{Mark: parse(words[1]), Uplink: strings.Trim(words[2], "-")}
			if len(words) > 3 {
				p.Cgroups = append([]string{}, words[4:]...)
			}
			f.Pins = append(f.Pins, p)
		case "going":
			f.Going = append(f.Going, fwmark.Pin{Mark: parse(words[1]), Uplink: strings.Trim(words[2], "-")})
		case "cgroup":
			f.Cgroups[words[1]] = nft.Cgroup{ID: number(words[2]), Level: int(number(words[3]))}
		case "run":
			f.Runs[parse(words[1])] = append(f.Runs[parse(words[1])], nft.Cgroup{ID: number(words[2]), Level: int(number(words[3]))})
		case "reach":
			p := netip.MustParsePrefix(words[1])
			f.Reach[fwmark.FamilyOf(p.Addr())] = append(f.Reach[fwmark.FamilyOf(p.Addr())], p)
		case "standing":
			s := nft.Set{Name: words[1], Type: nft.Cgroups}
			for _, id := range words[2:] {
				s.Cgroups = append(s.Cgroups, number(id))
			}
			f.Have.Sets[s.Name] = s
		case "chain":
			f.Have.Chains[words[1]] = nft.ChainState{Fingerprints: []string{""}}
		case "unguarded":
			f.Unguarded[parse(words[1])] = true
		case "broken":
			f.Broken = true
		case "unseen":
			f.Unseen = true
		default:
			t.Fatalf("unknown fact %q", line)
		}
	}
	return f
}

func uplink(name string, addrs []string) fwmark.Uplink {
	u := fwmark.Uplink{Name: name, Present: true, Up: true}
	for _, text := range addrs {
		a := netip.MustParseAddr(text)
		u.Addrs = append(u.Addrs, a)
		u.Address[fwmark.FamilyOf(a)], u.Gateways[fwmark.FamilyOf(a)] = a, a.Next()
	}
	return u
}

// elements is what the sets of cgroups, and of what main reaches, hold.
func elements(r nft.Ruleset) string {
	var b strings.Builder
	for _, s := range r.Sets {
		b.WriteString(s.Name + ":")
		for _, id := range s.Cgroups {
			b.WriteString(" " + strconv.FormatUint(id, 10))
		}
		for _, r := range s.Ranges {
			b.WriteString(" " + r.String())
		}
		b.WriteString("\n")
	}
	return b.String()
}

// TestServices has a scene in each file: facts, and what follows from them as
// nft(8) would print it.
func TestServices(t *testing.T) {
	files, err := filepath.Glob("testdata/services/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scenes: %v", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			parts := map[string]string{}
			for _, f := range txtar.Parse(text).Files {
				parts[f.Name] = string(f.Data)
			}
			services := nft.Want(readFacts(t, parts["facts"])).Only(nft.ServicesPart)
			if diff := cmp.Diff(parts["table"], services.String()); diff != "" {
				t.Errorf("table, wanted (-), is (+):\n%s", diff)
			}
			if diff := cmp.Diff(parts["elements"], elements(services)); diff != "" {
				t.Errorf("elements, wanted (-), are (+):\n%s", diff)
			}
		})
	}
}

// TestUnseenCgroups: what could not be read keeps the services that stand, and
// only those: a second run wants the same.
func TestUnseenCgroups(t *testing.T) {
	for name, facts := range map[string]string{
		"pinned":         "chain services\nstanding paths_0x1001 1\nstanding mark_0x1001\npin 0x1001 -\nunseen",
		"without guards": "chain services\nstanding paths_0x1001 1\nstanding mark_0x1001\npin 0x1001 -\nunguarded 0x1001\nunseen",
		"without guards, and others have deleted a set": "chain services\nstanding paths_0x1001 1\npin 0x1001 -\nunguarded 0x1001\nunseen",
	} {
		f := readFacts(t, facts)
		first := nft.Want(f)
		f.Have = nft.After(f.Have, first)
		if p := nft.Diff(f.Have, nft.Want(f), nil); !p.Empty() {
			t.Errorf("%s: a second run would do:\n%s", name, strings.Join(p.Steps, "\n"))
		}
	}
}
