package e2e

import (
	"bufio"
	"fmt"
	"net"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"wg-multihome/test/lab"
)

// traffic is what a test counts: a flow of a service, or the packets of a
// tunnel.
type traffic struct {
	name   string
	match  string // of its packets, as a router gets them: nft's words
	sent   string // as they come from their socket, before anything has refused them
	stream bool   // a TCP connection, which sends nothing while it is cut off
}

// meter counts traffic at each router, from the host, and at its origin.
type meter struct {
	t        *testing.T
	l        *lab.Lab
	isps     []*lab.Namespace
	traffics []traffic
}

// reading is how many packets of each traffic came to each router; index 0 is
// what was sent.
type reading map[string][]int

func newMeter(t *testing.T, l *lab.Lab, isps []*lab.Namespace, traffics []traffic) *meter {
	t.Helper()
	m := &meter{t, l, isps, traffics}
	count := func(n *lab.Namespace, hook string, match func(traffic) string) {
		var table strings.Builder
		for _, f := range traffics {
			fmt.Fprintf(&table, "counter of_%s {}\n", f.name)
		}
		fmt.Fprintf(&table, "chain count {\ntype filter hook %s\n", hook)
		for _, f := range traffics {
			fmt.Fprintf(&table, "%s counter name of_%s\n", match(f), f.name)
		}
		n.Script("nft -f - <<X\ntable inet metered {\n" + table.String() + "}\n}\nX")
	}
	for _, isp := range isps {
		count(isp, "prerouting priority -310", func(f traffic) string { return "iifname home " + f.match })
	}
	count(l.Namespace, "output priority -310", func(f traffic) string { return f.sent })
	return m
}

var counterLine = regexp.MustCompile(`counter of_(\S+) \{\s*packets (\d+)`)

func (m *meter) read() reading {
	m.t.Helper()
	r := reading{}
	for _, n := range append([]*lab.Namespace{m.l.Namespace}, m.isps...) {
		for _, c := range counterLine.FindAllStringSubmatch(n.Run("nft", "list", "counters", "table", "inet", "metered"), -1) {
			r[c[1]] = append(r[c[1]], number(m.t, regexp.MustCompile(`(\d+)`), c[2]))
		}
	}
	for _, f := range m.traffics {
		if len(r[f.name]) != len(m.isps)+1 {
			m.t.Fatalf("no counter of %s: %v", f.name, r)
		}
	}
	return r
}

// markWatch reads the mark of a device all the time.
type markWatch struct {
	stop func() (readings int, marks []string)
}

// watchMark has the mark of a userspace device read in a loop, until stop is
// called, which returns how often it was and the marks that were seen, as `wg
// show` writes them. Goes on where the device does not.
func watchMark(t *testing.T, l *lab.Lab, device string) markWatch {
	t.Helper()
	c, err := net.Dial("unix", l.Path("/run/wireguard/"+device+".sock"))
	if err != nil {
		t.Fatalf("device %s has no socket: %v", device, err)
	}
	t.Cleanup(func() { _ = c.Close() })
	var (
		end      = make(chan struct{})
		ended    sync.WaitGroup
		readings int
		marks    []string
		failed   error
	)
	ended.Add(1)
	go func() {
		defer ended.Done()
		lines := bufio.NewScanner(c)
		// No faster: the program has to have its turn, too.
		for ticks := time.NewTicker(200 * time.Microsecond); ; {
			select {
			case <-end:
				return
			case <-ticks.C:
			}
			if _, failed = c.Write([]byte("get=1\n\n")); failed != nil {
				return
			}
			mark := "off" // the line is left out
			for lines.Scan() && lines.Text() != "" {
				if value, is := strings.CutPrefix(lines.Text(), "fwmark="); is {
					mark = value
				}
			}
			if failed = lines.Err(); failed != nil {
				return
			}
			readings++
			if len(marks) == 0 || marks[len(marks)-1] != mark {
				marks = append(marks, mark)
			}
		}
	}()
	return markWatch{func() (int, []string) {
		t.Helper()
		close(end)
		ended.Wait()
		if failed != nil {
			t.Fatalf("device %s: %v", device, failed)
		}
		return readings, marks
	}}
}

// neverOff fails the test if a device was seen without a mark.
func (w markWatch) neverOff(t *testing.T, device string, changes int) {
	t.Helper()
	readings, marks := w.stop()
	off := 0
	for _, m := range marks {
		if m == "off" {
			off++
		}
	}
	distinct := slices.Clone(marks)
	slices.Sort(distinct)
	t.Logf("the mark of %s was read %d times: %v", device, readings, slices.Compact(distinct))
	if off > 0 {
		t.Errorf("%s was without a mark %d times in %d changes", device, off, changes)
	}
	if readings < 20*changes {
		t.Errorf("its mark was read %d times in %d changes: nothing was proved", readings, changes)
	}
}
