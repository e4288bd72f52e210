package socket

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"

	"wg-multihome/fwmark"
)

// parseMark reads a mark of a scene.
func parseMark(t testing.TB, text string) fwmark.Mark {
	t.Helper()
	m, err := fwmark.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// readFacts reads a host in words, one fact to a line:
//
//	pin 0x2005 up2 a.slice b.slice      a mark, its uplink ("-" is none), its cgroups
//	run 0x2005 wgmultihome.slice/x      a slice of `run`
//	packet 0x2005                       `marking = "packet"`
//	element a.slice/b 0x2005            others have put it into the mark's set
//	owner 0x2001 up2                    the uplink that a mark leads to, as it stands
//	bypacket a.slice                    nftables marks its packets, as it stands
//	connection 0x2005 0x2005            what sockets get by a connection's mark ("-" is none)
//	unguarded 0x2005
//	broken | unseen
//	there a.slice [0x2005]              a cgroup, with programs of a mark
//	partly a.slice sock_ops 0x2005      a program more, at one place
//	foreign a.slice connect4 x [multi]  a program of others, alone or beside others
//	denied                              bpf(2) is refused
func readFacts(t testing.TB, text string) Facts {
	t.Helper()
	f := Facts{
		Runs: map[fwmark.Mark][]string{}, Packets: map[fwmark.Mark]bool{}, Elements: map[string]fwmark.Mark{},
		Owners: map[fwmark.Mark]string{}, Unguarded: map[fwmark.Mark]bool{}, ByPacket: map[string]bool{}, Have: State{Cgroups: map[string]Cgroup{}},
	}
	for _, line := range strings.Split(strings.TrimSpace(text), "\n") {
		w := strings.Fields(line)
		switch w[0] {
		case "pin":
			f.Pins = append(f.Pins, fwmark.Pin{Mark: parseMark(t, w[1]), Uplink: strings.Trim(w[2], "-"), Cgroups: w[3:]})
		case "run":
			f.Runs[parseMark(t, w[1])] = append(f.Runs[parseMark(t, w[1])], w[2])
		case "packet":
			f.Packets[parseMark(t, w[1])] = true
		case "element":
			f.Elements[w[1]] = parseMark(t, w[2])
		case "owner":
			f.Owners[parseMark(t, w[1])] = w[2]
		case "bypacket":
			f.ByPacket[w[1]] = true
		case "connection":
			m := Move{From: parseMark(t, w[1])}
			if w[2] != "-" {
				m.To = parseMark(t, w[2])
			}
			f.Connections = append(f.Connections, m)
		case "unguarded":
			f.Unguarded[parseMark(t, w[1])] = true
		case "broken":
			f.Broken = true
		case "unseen":
			f.Unseen = true
		case "denied":
			f.Have.Refused = &Refusal{Reason: Denied}
		case "there", "partly", "foreign":
			f.Have.Cgroups[w[1]] = withFact(t, f.Have.Cgroups[w[1]], w)
		default:
			t.Fatalf("unknown fact %q", line)
		}
	}
	return f
}

func withFact(t testing.TB, c Cgroup, w []string) Cgroup {
	t.Helper()
	placeOf := func(name string) Place {
		i := slices.IndexFunc(Places[:], func(p Place) bool { return p.String() == name })
		if i < 0 {
			t.Fatalf("no such place: %q", name)
		}
		return Places[i]
	}
	switch {
	case w[0] == "partly":
		return c.After(Change{Kind: Attach, Place: placeOf(w[2]), Mark: parseMark(t, w[3])})
	case w[0] == "foreign":
		at := &c.Places[placeOf(w[2])]
		at.Programs, at.Multi = append(at.Programs, Attached{ID: c.freeID(), Name: w[3]}), len(w) > 4
	case len(w) > 2:
		for _, place := range Places {
			c = c.After(Change{Kind: Attach, Place: place, Mark: parseMark(t, w[2])})
		}
	}
	return c
}

// text is what is decided, and what is done.
func text(f Facts) (services, steps, sockets string) {
	w := Decide(f)
	var a, b, c strings.Builder
	for _, s := range w.Services {
		a.WriteString(s.Cgroup + " " + s.Mark.String())
		if s.Packet != nil {
			a.WriteString(" by packet: " + s.Packet.String())
		}
		a.WriteString("\n")
	}
	for _, s := range Diff(f.Have, w) {
		b.WriteString(strings.Join(s.Lines(), "\n") + "\n")
		for _, change := range s.Changes {
			if change.Kind == Give {
				c.WriteString(change.Remark.text() + "\n")
			}
		}
	}
	return a.String(), b.String(), c.String()
}

func (r Remark) text() string {
	words := []string{r.Cgroup, "get"}
	marks := func(word string, list []fwmark.Mark) {
		if len(list) > 0 {
			words = append(words, word)
		}
		for _, m := range list {
			words = append(words, m.String())
		}
	}
	if r.To.IsZero() {
		words = append(words, "none")
	} else {
		words = append(words, r.To.String())
	}
	marks("for", r.Was)
	moves := func(word string, list []Move) {
		for _, m := range list {
			to := "none"
			if !m.To.IsZero() {
				to = m.To.String()
			}
			words = append(words, word, m.From.String(), "to", to)
		}
	}
	moves("all", r.Moves)
	if r.ByPacket {
		words = append(words, "by packet")
	}
	moves("connection", r.Connections)
	if len(r.Except) > 0 {
		words = append(append(words, "but for"), r.Except...)
	}
	return strings.Join(words, " ")
}

// TestDecide has a scene in each file: what is decided about services, the steps,
// and what the sockets get that are there.
func TestDecide(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scenes: %v", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			archive, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			parts := map[string]string{}
			for _, part := range archive.Files {
				parts[part.Name] = string(part.Data)
			}
			services, steps, sockets := text(readFacts(t, parts["facts"]))
			got := map[string]string{"facts": parts["facts"], "services": services, "steps": steps, "sockets": sockets}
			if *update {
				archive.Files = nil
				for _, name := range []string{"facts", "services", "steps", "sockets"} {
					archive.Files = append(archive.Files, txtar.File{Name: name, Data: []byte(got[name])})
				}
				if err := os.WriteFile(file, txtar.Format(archive), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if diff := cmp.Diff(parts, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestChanges has the calls of a mark that comes, is swapped, goes, and comes after a
// run was killed.
func TestChanges(t *testing.T) {
	for facts, want := range map[string]string{
		"pin 0x2005 up2 a\nthere a": "attach sock_ops 0x2005, attach sock_ops 0x2005 again, attach connect6 0x2005, attach connect4 0x2005, " +
			"attach sock_create 0x2005, give, detach sock_ops but for one 0x2005",
		"pin 0x2005 up2 a\nthere a 0x2001": "attach sock_ops 0x2005, replace connect6 by 0x2005, replace connect4 by 0x2005, " +
			"replace sock_create by 0x2005, give, detach sock_ops but for one 0x2005",
		"pin 0x2005 up2\nthere a 0x2005": "detach sock_create, detach connect4, detach connect6, give, detach sock_ops",
		"pin 0x2005 up2 a\nthere a\npartly a sock_ops 0x2005\npartly a sock_ops 0x2005\npartly a connect6 0x2005\npartly a connect6 0x2001": "detach connect6 but for one 0x2005, " +
			"attach connect4 0x2005, attach sock_create 0x2005, give, detach sock_ops but for one 0x2005",
	} {
		f := readFacts(t, facts)
		var got []string
		for _, step := range Diff(f.Have, Decide(f)) {
			for _, change := range step.Changes {
				got = append(got, change.String())
			}
		}
		if diff := cmp.Diff(strings.Split(want, ", "), got); diff != "" {
			t.Errorf("%q (-want +got):\n%s", facts, diff)
		}
	}
}
