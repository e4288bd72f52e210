package lab

import (
	"fmt"
	"strconv"
	"strings"
)

// Query is what a client asks far with.
type Query struct {
	Network string // udp, tcp or icmp
	Far     string // whom: Far4 or Far6, or where Echo answers
	Source  string // "": the kernel chooses
	Mark    uint32
	Cgroup  string     // below the mount; "": the test's own
	From    *Namespace // nil: the host
}

// A client asks from ports of its own, below the ephemeral ones: conntrack may
// remember another flow with a port that comes again.
const (
	firstPort = 10000
	tries     = 3 // a port for each
)

// Ask returns the address that far saw. Where nothing came back it begins with
// "error: ".
func (l *Lab) Ask(q Query) string {
	l.t.Helper()
	from := q.From
	if from == nil {
		from = l.Namespace
	}
	return strings.TrimSpace(from.Try([]string{roleVariable + "=ask"}, l.inCgroup(q.Cgroup, l.askArgs(q))...).Stdout)
}

// AskBy asks as Ask does, by a program that a command runs.
func (l *Lab) AskBy(command []string, q Query) string {
	l.t.Helper()
	return strings.TrimSpace(l.Try([]string{roleVariable + "=ask"}, append(append([]string{}, command...), l.askArgs(q)...)...).Stdout)
}

// askArgs is the client's command line. Each has source ports of its own.
func (l *Lab) askArgs(q Query) []string {
	l.t.Helper()
	return []string{self(l.t), q.Network, q.Far, q.Source, strconv.FormatUint(uint64(q.Mark), 10), strconv.Itoa(firstPort + tries*int(l.asked.Add(1)))}
}

// Asking returns the command of Ask on the host, and its variable, for what
// starts it elsewhere, and again: a unit of systemd. Each start has another port.
func (l *Lab) Asking(q Query) (variable, command string) {
	l.t.Helper()
	return roleVariable + "=ask", fmt.Sprintf("/usr/bin/nsenter --target %d --net -- %s %s %s %q %d 0", l.pid, self(l.t), q.Network, q.Far, q.Source, q.Mark)
}

// WantSeen asks by UDP and by TCP, and fails the test unless far saw the
// address each time.
func (l *Lab) WantSeen(far, source string, mark uint32, seen string) {
	l.t.Helper()
	for _, network := range []string{"udp", "tcp"} {
		if got := l.Ask(Query{Network: network, Far: far, Source: source, Mark: mark}); got != seen {
			l.t.Errorf("%s to %s from %q with mark %#x: far saw %q, want %q", network, far, source, mark, got, seen)
		}
	}
}

// WantRefused asks by UDP and by TCP, and fails the test if far saw anything.
func (l *Lab) WantRefused(far, source string, mark uint32) {
	l.t.Helper()
	for _, network := range []string{"udp", "tcp"} {
		if got := l.Ask(Query{Network: network, Far: far, Source: source, Mark: mark}); !strings.HasPrefix(got, "error: ") {
			l.t.Errorf("%s to %s from %q with mark %#x: far saw %q, want nothing", network, far, source, mark, got)
		}
	}
}

// Flood sends marked datagrams to far until stop is called, which returns how
// many left the host's sockets.
func (l *Lab) Flood(far string, mark uint32) (stop func() int) {
	l.t.Helper()
	return l.FloodFrom("", far, mark)
}

// FloodFrom does so from a cgroup below the mount. Each 20 datagrams are a flow
// of their own.
func (l *Lab) FloodFrom(cgroup, far string, mark uint32) (stop func() int) {
	l.t.Helper()
	return l.counting(l.endless(l.Namespace, "flood", l.inCgroup(cgroup, []string{self(l.t), far, fmt.Sprint(mark)})...))
}

// ForgetConnections has conntrack forget all connections of the host.
func (l *Lab) ForgetConnections() {
	l.t.Helper()
	if r := l.Try([]string{roleVariable + "=forget"}, self(l.t)); r.Code != 0 {
		l.t.Fatalf("forget connections: %s%s", r.Stdout, r.Stderr)
	}
}
