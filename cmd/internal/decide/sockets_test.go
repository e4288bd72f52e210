package decide

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"

	"wg-multihome/fwmark"
	"wg-multihome/fwmark/socket"
	"wg-multihome/nft"
	"wg-multihome/policy"
)

// socketLeaks names what may leave by an uplink that it is not pinned to: by a mark
// that leads there, and that programs of another uplink's service give, or that
// sockets of another uplink have by what is noted. And programs without guards, and
// those that mark the sockets of a cgroup below that has none, and another uplink.
func socketLeaks(o Observation, uplinkOf map[string]string) (leaks []string) {
	leads := policy.Leads(o.Facts)
	for path, c := range o.Sockets.Have.Cgroups {
		for _, m := range c.Marks() {
			if !policy.Guarded(o.Facts, m) {
				leaks = append(leaks, fmt.Sprintf("%s gives %s, which has no guards", path, m))
			}
			for _, uplink := range leads[m] {
				if uplinkOf[path] != "" && uplink != uplinkOf[path] {
					leaks = append(leaks, fmt.Sprintf("%s of %s gives %s, which leads to %s", path, uplinkOf[path], m, uplink))
				}
			}
		}
	}
	for path, uplink := range uplinkOf {
		above := path
		for len(o.Sockets.Have.Cgroups[above].Marks()) == 0 && above != "" {
			above = socket.Above(above)
		}
		for _, m := range o.Sockets.Have.Cgroups[above].Marks() {
			if above != path && !slices.Contains(leads[m], uplink) {
				leaks = append(leaks, fmt.Sprintf("%s of %s has no programs, and %s above it gives %s", path, uplink, above, m))
			}
		}
	}
	for text, owner := range o.Sockets.Noted.Marks {
		m, _ := fwmark.Parse(text)
		for _, uplink := range leads[m] {
			if uplink != owner {
				leaks = append(leaks, fmt.Sprintf("sockets of %s have %s, which leads to %s", owner, m, uplink))
			}
		}
	}
	return leaks
}

// TestSocketsWhereKilled goes through each plan of services that are marked by
// socket, has the run killed after each step, and another one go on from there.
func TestSocketsWhereKilled(t *testing.T) {
	files, err := filepath.Glob("testdata/plans/sockets-*.txtar")
	if err != nil || len(files) < 9 {
		t.Fatalf("%d plans: %v", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			sections := map[string]string{}
			for _, f := range txtar.Parse(text).Files {
				sections[f.Name] = string(f.Data)
			}
			p := newPlanned()
			p.configure(t, sections["before"])
			p.o = wentThrough(Decide(p.o, p.m)).Observation
			p.configure(t, sections["after"])
			uplinkOf := map[string]string{}
			for _, in := range p.o.Config.Intents {
				for _, path := range in.Cgroups {
					uplinkOf[path] = in.Uplink
				}
			}
			whole := wentThrough(Decide(p.o, p.m)).Observation
			for kill := 1; ; kill++ {
				o, ended := killedAfter(p.o, p.m, kill)
				for path, uplink := range uplinkOf {
					if isPinned(p.o, path) && uplink != "" && isPinned(whole, path) && !isPinned(o, path) {
						t.Fatalf("killed after %d steps: %s is not pinned", kill, path)
					}
				}
				if leaks := socketLeaks(o, uplinkOf); len(leaks) > 0 {
					t.Fatalf("killed after %d steps: %q", kill, leaks)
				}
				if ended {
					break
				}
				d := wentThrough(Decide(o, p.m))
				if left := d.Plan(); len(left) > 0 {
					t.Errorf("killed after %d steps, still to be done: %q", kill, left)
				}
				if !d.Sockets.Noted.Equal(whole.Sockets.Noted) || !slices.Equal(socketMarks(d.Observation), socketMarks(whole)) {
					t.Errorf("killed after %d steps: %v %v, want %v %v", kill, socketMarks(d.Observation), d.Sockets.Noted, socketMarks(whole), whole.Sockets.Noted)
				}
			}
		})
	}
}

// isPinned reports whether a service is, by packet or by socket.
func isPinned(o Observation, path string) bool {
	c := o.Sockets.Have.Cgroups[path]
	return slices.ContainsFunc(c.Marks(), c.Complete) ||
		o.Table.Have.MarksConnections() && slices.Contains(o.Table.Have.Paths(), o.Cgroups.ByPath[path].ID)
}

// killedAfter returns what a run leaves that makes so many steps. ended is true
// where there are no more.
func killedAfter(o Observation, m Memory, steps int) (left Observation, ended bool) {
	d := Decide(o, m)
	for range Rounds {
		for _, phase := range Phases {
			made := d.Steps(phase)
			for i := range made {
				if steps--; steps == 0 {
					return d.Observation.After(made[:i+1]), false
				}
			}
			if len(made) > 0 {
				d = d.after(made)
			}
		}
	}
	return d.Observation, true
}

func socketMarks(o Observation) (lines []string) {
	for path, c := range o.Sockets.Have.Cgroups {
		for _, m := range c.Marks() {
			lines = append(lines, path+" "+m.String())
		}
	}
	slices.Sort(lines)
	return lines
}

// TestExchangedSockets has two uplinks exchange their marks while sockets have both:
// each gets the other one's, by way of a number that is nobody's, and none is left
// of that. Without room for one, under the mask or beside it, nothing leaves by either,
// and it is said what to do.
func TestExchangedSockets(t *testing.T) {
	uplinks := map[string]string{"a.service": "wan1", "b.service": "wan2"}
	const others = "\nwan8 0x10000000/0xfffffffb\nwan7 0x20000000/0xfffffff7" // each bit is in a mask
	for name, c := range map[string]struct {
		begin, end string
		room       bool
	}{
		"plain":      {"wan1 0x100 a.service\nwan2 0x200 b.service", "wan1 0x200 a.service\nwan2 0x100 b.service", true},
		"one masked": {"wan1 0x100 a.service\nwan2 0x200/0xff00 b.service", "wan1 0x200 a.service\nwan2 0x100/0xff00 b.service", true},
		"room":       {"wan1 0x1/0x3 a.service\nwan2 0x2/0x3 b.service", "wan1 0x2/0x3 a.service\nwan2 0x1/0x3 b.service", true},
		"room beside": {"wan1 0x1/0x3 a.service\nwan2 0x2/0x3 b.service\nwan9 0x3/0x3\nwan8 0x100",
			"wan1 0x2/0x3 a.service\nwan2 0x1/0x3 b.service\nwan9 0x3/0x3\nwan8 0x100", true},
		"no room": {"wan1 0x1/0x3 a.service\nwan2 0x2/0x3 b.service\nwan9 0x3/0x3" + others,
			"wan1 0x2/0x3 a.service\nwan2 0x1/0x3 b.service\nwan9 0x3/0x3" + others, false},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPlanned()
			p.configure(t, c.begin+"\nmarking socket")
			p.o = wentThrough(Decide(p.o, p.m)).Observation
			p.configure(t, c.end+"\nmarking socket")
			d := wentThrough(Decide(p.o, p.m))
			if room := len(d.Errs) == 0; room != c.room || !room && !strings.Contains(d.Errs[0].Error(), "in exchange") {
				t.Errorf("errors %q", d.Errs)
			}
			if leaks := socketLeaks(d.Observation, uplinks); len(leaks) > 0 {
				t.Errorf("%q", leaks)
			}
			for _, pin := range d.Pins {
				if led := len(policy.Leads(d.Facts)[pin.Mark]) > 0; led != (c.room && pin.Uplink < "wan3") {
					t.Errorf("mark %s leads somewhere: %t", pin.Mark, led)
				}
			}
			if want := len(strings.Split(c.begin, "\n")); len(d.Pins) != want {
				t.Errorf("%d marks are left, want %d: %v", len(d.Pins), want, d.Pins)
			}
		})
	}
}

// TestConnectedGoFromPackets: when the way changes, sockets get the mark of their
// connections, each that of its uplink; that some may have another uplink's is noted. A
// service that comes has none.
func TestConnectedGoFromPackets(t *testing.T) {
	mark := func(text string) fwmark.Mark { return mustMark(t, text) }
	same := func(marks ...string) (connections []socket.Move) {
		for _, m := range marks {
			connections = append(connections, socket.Move{From: mark(m), To: mark(m)})
		}
		return connections
	}
	for name, c := range map[string]struct {
		before, after string
		byPacket      bool
		connections   []socket.Move
		noted         map[string]string
	}{
		"the way alone": {"wan1 0x100 a.service", "wan1 0x100 a.service", true, same("0x100"), map[string]string{"0x100": "wan1"}},
		"another number": {"wan1 0x100 a.service", "wan1 0x300 a.service", true,
			[]socket.Move{{From: mark("0x100"), To: mark("0x300")}, same("0x300")[0]}, map[string]string{"0x300": "wan1"}},
		"another uplink": {"wan1 0x100 a.service\nwan2 0x200", "wan1 0x100\nwan2 0x200 a.service", true,
			same("0x100", "0x200"), map[string]string{"0x100": "wan1", "0x200": "wan2"}},
		"a number that moves": {"wan1 0x100 a.service\nwan2 0x200", "wan1 0x300 a.service\nwan2 0x100", true,
			[]socket.Move{{From: mark("0x100")}, {From: mark("0x200"), To: mark("0x100")}, same("0x300")[0]}, map[string]string{"0x100": "wan2", "0x300": "wan1"}},
		"an element of others": {"wan1 0x100 b.service", "wan1 0x100 a.service", true, same("0x100"), map[string]string{"0x100": "wan1"}},
		"it comes":             {"wan1 0x100\nwan2 0x200 b.service", "wan1 0x100 a.service\nwan2 0x200", false, nil, map[string]string{"0x100": "wan1"}},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPlanned()
			p.configure(t, c.before)
			p.o = wentThrough(Decide(p.o, p.m)).Observation
			p.configure(t, c.after+"\nmarking socket")
			if name == "an element of others" {
				p.o.Sockets.Elements = map[uint64]string{7: "a.service"}
			}
			d := Decide(p.o, p.m)
			for _, phase := range []Phase{ForgetFresh, Open, Lock, Mark} {
				d = d.after(d.Steps(phase))
			}
			steps := d.Steps(Attach)
			if len(steps) == 0 {
				t.Fatal("no step")
			}
			step := steps[0].(SocketStep)
			i := slices.IndexFunc(step.Step.Changes, func(c socket.Change) bool { return c.Kind == socket.Give })
			if step.Cgroup != "a.service" || i < 0 {
				t.Fatalf("step %+v", step)
			}
			r := step.Step.Changes[i].Remark
			slices.SortFunc(r.Connections, func(a, b socket.Move) int { return a.From.Compare(b.From) })
			if r.ByPacket != c.byPacket || !slices.Equal(r.Connections, c.connections) {
				t.Errorf("by packet: %t, connections: %v", r.ByPacket, r.Connections)
			}
			if noted := step.Note(d.Sockets.Noted).Marks; !maps.Equal(noted, c.noted) {
				t.Errorf("noted %v", noted)
			}
		})
	}
}

// TestSocketsDown takes the programs away before the guards.
func TestSocketsDown(t *testing.T) {
	p := newPlanned()
	p.configure(t, "wan1 0x100 a.service\nwan2 0x200\nmarking socket")
	p.o = wentThrough(Decide(p.o, p.m)).Observation
	d := Nothing(p.o, p.m)
	plan := d.Plan()
	i := slices.Index(plan, "- socket-mark a.service 0x100")
	j := slices.Index(plan, "- rule 4 32754 fwmark 0x100 unreachable")
	if i < 0 || j < i {
		t.Errorf("plan %q", plan)
	}
	if left := wentThrough(d).Plan(); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
	unread := p.o
	unread.Sockets = Sockets{Unread: true}
	for _, line := range Nothing(unread, p.m).Plan() {
		if strings.HasSuffix(line, "fwmark 0x100 unreachable") {
			t.Errorf("guards go while it is not known what has the mark: %s", line)
		}
	}
}

// TestOptOut asks of nothing, and has all go as ever, where no service is marked by
// socket.
func TestOptOut(t *testing.T) {
	p := newPlanned()
	p.configure(t, "wan1 0x100 a.service\nwan2 0x200")
	d := Decide(p.o, p.m)
	if s, decided := d.Service("a.service"); decided {
		t.Errorf("it was decided how a service is marked: %v", s)
	}
	for _, phase := range []Phase{Attach, Remark} {
		if steps := d.Steps(phase); len(steps) > 0 {
			t.Errorf("steps %v", steps)
		}
	}
}

// TestSocketsWait has steps of sockets, and those that wait for them, not be made
// while what they take has failed: each phase is asked at once, of what stands.
func TestSocketsWait(t *testing.T) {
	for name, c := range map[string]struct {
		before, after string
		phase         Phase
		without, with string // parts of the steps' lines
	}{
		"no programs without guards":           {"typo", "wan1 0x100 a.service\nmarking socket", Attach, "socket-mark", ""},
		"programs where guards stand":          {"wan1 0x100\nmarking socket", "wan1 0x100 a.service\nmarking socket", Attach, "", "+ socket-mark a.service 0x100"},
		"guards stay while there are programs": {"wan1 0x100 a.service\nwan2 0x200\nmarking socket", "wan2 0x200\nmarking socket", Close, "fwmark 0x100", ""},
		"programs stay until packets get the mark": {"wan1 0x100 a.service\nmarking socket", "wan1 0x100 a.service", Release,
			"socket-mark", ""},
		"the table marks packets until there are programs": {"wan1 0x100 a.service", "wan1 0x100 a.service\nmarking socket", Lock, "nft element", ""},
		"no number that sockets of another uplink have": {"wan1 0x100 a.service\nwan2 0x200 b.service\nmarking socket",
			"wan1 0x300 a.service\nwan2 0x100 b.service\nmarking socket", Attach, "b.service", ""},
		"no other number before programs give it": {"wan1 0x100 a.service\nmarking socket", "wan1 0x300 a.service\nmarking socket", Remark, "sockets", ""},
	} {
		p := newPlanned()
		p.configure(t, c.before)
		p.o = wentThrough(Decide(p.o, p.m)).Observation
		p.configure(t, c.after)
		var lines []string
		for _, s := range Decide(p.o, p.m).Steps(c.phase) {
			lines = append(lines, s.Lines()...)
		}
		text := strings.Join(lines, "\n")
		if c.without != "" && strings.Contains(text, c.without) || !strings.Contains(text, c.with) {
			t.Errorf("%s: steps:\n%s", name, text)
		}
	}
}

// TestSocketsOfRuns: a slice of `run` is marked as its uplink's services are, and
// nothing that is configured no longer when its commands have ended.
func TestSocketsOfRuns(t *testing.T) {
	const slice = runsSlice + "wgmultihome-0x100_wan1.slice"
	p := newPlanned()
	p.configure(t, "wan1 0x100\nwan2 0x200\nmarking socket\nhook")
	p.o.Cgroups.Names[9] = slice
	p.o.Cgroups.Runs = []RunSlice{{Uplink: "wan1", Value: 0x100, Cgroup: nft.Cgroup{ID: 9, Level: 2}, Lives: true}}
	p.o.Sockets.Have.Cgroups[slice] = socket.Cgroup{}
	d := wentThrough(Decide(p.o, p.m))
	if s, pinned := d.Service(slice); !pinned || s.Packet != nil || !d.Sockets.Have.Cgroups[slice].Complete(s.Mark) {
		t.Errorf("the slice is %v, %t, with %v", s, pinned, d.Sockets.Have.Cgroups[slice].Marks())
	}
	if d.Table.Have.MarksConnections() {
		t.Error("there is a part of the table for services")
	}
	o := d.Observation
	o.Cgroups.Runs = nil
	d = Decide(o, p.m)
	if plan := d.Plan(); !slices.Equal(plan, []string{"- socket-mark " + slice + " 0x100"}) || len(d.Problems) > 0 {
		t.Errorf("after the command: %q, %v", plan, d.Problems)
	}
}

// TestConnectedOfRunGoFromPackets: so do those of a command of `run`.
func TestConnectedOfRunGoFromPackets(t *testing.T) {
	const slice = runsSlice + "wgmultihome-0x100_wan1.slice"
	p := newPlanned()
	p.o.Cgroups.Names[10] = slice
	p.o.Cgroups.Runs = []RunSlice{{Uplink: "wan1", Value: 0x100, Cgroup: nft.Cgroup{ID: 10, Level: 2}, Lives: true}}
	p.configure(t, "wan1 0x100\nwan2 0x200")
	p.o = wentThrough(Decide(p.o, p.m)).Observation
	p.configure(t, "wan1 0x100\nwan2 0x200\nmarking socket")
	p.o.Sockets.Have.Cgroups[slice] = socket.Cgroup{}
	steps := Decide(p.o, p.m).Steps(Attach)
	if len(steps) != 1 {
		t.Fatalf("steps %+v", steps)
	}
	for _, change := range steps[0].(SocketStep).Step.Changes {
		if change.Kind == socket.Give && !change.Remark.ByPacket {
			t.Errorf("%+v", change.Remark)
		}
	}
}

// TestSocketsOfACall: on hosts that keep the original shell script its guards count.
func TestSocketsOfACall(t *testing.T) {
	p := newPlanned()
	p.configure(t, "wan1 0x100 a.service\nmarking socket\nhook")
	m := mustMark(t, "0x100")
	call := Call{Uplink: "wan1", Mark: m, Table: 7}
	p.o.Facts.Families[fwmark.IPv6] = true
	rules := p.o.Facts.Rules
	guard := func(f fwmark.Family, protocol uint8) policy.Rule {
		return policy.Rule{Family: f, Priority: 100, Mark: m, Action: policy.Unreachable, Protocol: protocol}
	}
	for name, c := range map[string]struct {
		guards []policy.Rule
		want   bool
	}{
		"none":                           {nil, false},
		"the script's, in IPv4 alone":    {[]policy.Rule{guard(fwmark.IPv4, 3)}, true},
		"ours, of a run that was killed": {[]policy.Rule{guard(fwmark.IPv4, policy.Protocol)}, false},
		"ours":                           {[]policy.Rule{guard(fwmark.IPv4, policy.Protocol), guard(fwmark.IPv6, policy.Protocol)}, true},
	} {
		p.o.Facts.Rules = slices.Concat(rules, c.guards)
		if plan := ForCall(p.o, p.m, call).Plan(); slices.Contains(plan, "+ socket-mark a.service 0x100") != c.want {
			t.Errorf("%s: %q", name, plan)
		}
	}
}
