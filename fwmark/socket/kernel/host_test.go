package kernel

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"wg-multihome/fwmark"
	"wg-multihome/fwmark/socket"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// mountPoint returns where cgroup2 is mounted.
func mountPoint(t testing.TB) string {
	t.Helper()
	infos, err := mountinfo.GetMounts(mountinfo.FSTypeFilter("cgroup2"))
	must(t, err)
	if len(infos) == 0 {
		t.Fatal("cgroup2 is mounted nowhere")
	}
	return infos[0].Mountpoint
}

// host is a network namespace with two uplinks, and a cgroup of its own:
//
//	up1 192.0.2.10    2001:db8:1::10  main's default
//	up2 198.51.100.10 2001:db8:2::10  that of marks one, two and masked, and of its own addresses
//	far 203.0.113.1   2001:db8:f::1   by both; it drops what comes by the wrong one, IPv4
type host struct {
	t      testing.TB
	client *Client
	point  string
	cgroup string // path of the host's cgroup
	far    *process
}

var (
	one    = fwmark.Mark{Value: 0x2005, Mask: fwmark.FullMask}
	two    = fwmark.Mark{Value: 0x80002006, Mask: fwmark.FullMask}
	masked = fwmark.Mark{Value: 0x2000, Mask: 0xff00}
)

const hostLinks = `link set lo up
link add up1 type veth peer name f1 netns %[1]d
link add up2 type veth peer name f2 netns %[1]d
addr add 192.0.2.10/24 dev up1
addr add 198.51.100.10/24 dev up2
addr add 2001:db8:1::10/64 dev up1 nodad
addr add 2001:db8:2::10/64 dev up2 nodad
link set up1 up
link set up2 up
`

const farLinks = `link set lo up
addr add 203.0.113.1/32 dev lo
addr add 2001:db8:f::1/128 dev lo nodad
addr add 192.0.2.1/24 dev f1
addr add 198.51.100.1/24 dev f2
addr add 2001:db8:1::1/64 dev f1 nodad
addr add 2001:db8:2::1/64 dev f2 nodad
link set f1 up
link set f2 up
`

const hostRoutes = `-4 route add default via 192.0.2.1 dev up1
-6 route add default via 2001:db8:1::1 dev up1
-4 route add default via 198.51.100.1 dev up2 table 200
-6 route add default via 2001:db8:2::1 dev up2 table 200
-4 rule add from 198.51.100.10 lookup 200
-6 rule add from 2001:db8:2::10 lookup 200
-4 rule add fwmark 0x2005 lookup 200
-6 rule add fwmark 0x2005 lookup 200
-4 rule add fwmark 0x80002006 lookup 200
-6 rule add fwmark 0x80002006 lookup 200
-4 rule add fwmark 0x2000/0xff00 lookup 200
-6 rule add fwmark 0x2000/0xff00 lookup 200
`

// newHost makes it. All of it goes with the test.
func newHost(t testing.TB) *host {
	t.Helper()
	h := withCgroup(t)
	runtime.LockOSThread() // and never unlocked: the thread ends with the test
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatalf("a network namespace takes root: %v", err)
	}
	h.far = start(t, "", &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET})
	far := []string{"nsenter", "--target", strconv.Itoa(h.far.pid), "--net", "--"}
	batch := func(enter []string, lines string) {
		run(t, append(enter, "sh", "-euc", `printf '%s' "$0" | while read -r line; do ip $line || exit 1; done`, lines))
	}
	batch(nil, fmt.Sprintf(hostLinks, h.far.pid))
	batch(far, farLinks)
	run(t, append(far, "sh", "-euc", "echo 1 >/proc/sys/net/ipv4/conf/all/rp_filter"))
	run(t, []string{"sh", "-euc", "cd /proc/sys/net/ipv4; for i in all up1 up2; do echo 0 >conf/$i/rp_filter; done; echo 0 0 >ping_group_range"})
	batch(nil, hostRoutes)
	return h
}

func run(t testing.TB, args []string) {
	t.Helper()
	if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", args, err, out)
	}
}

// withCgroup makes a cgroup alone.
func withCgroup(t testing.TB) *host {
	t.Helper()
	h := &host{t: t, point: mountPoint(t)}
	dir, err := os.MkdirTemp(h.point, "wg-multihome-test-")
	if err != nil {
		t.Fatalf("make a cgroup (as root): %v", err)
	}
	must(t, os.Chmod(dir, 0o755))
	h.cgroup = filepath.Base(dir)
	t.Cleanup(func() { h.remove(h.cgroup) })
	h.client, err = Open(h.point)
	must(t, err)
	t.Cleanup(h.client.Close)
	return h
}

// path is that of a cgroup below the host's, "" for the host's own.
func (h *host) path(name string) string { return filepath.Join(h.cgroup, name) }

// make makes a cgroup below the host's, and returns its path.
func (h *host) make(name string) string {
	h.t.Helper()
	must(h.t, os.MkdirAll(filepath.Join(h.point, h.path(name)), 0o755))
	return h.path(name)
}

// remove removes a cgroup, and those below it. A process that was ended leaves it a
// little later.
func (h *host) remove(path string) {
	h.t.Helper()
	entries, _ := os.ReadDir(filepath.Join(h.point, path))
	for _, e := range entries {
		if e.IsDir() {
			h.remove(filepath.Join(path, e.Name()))
		}
	}
	until(h.t, "cgroup "+path+" is empty", func() bool {
		err := os.Remove(filepath.Join(h.point, path))
		return err == nil || errors.Is(err, os.ErrNotExist)
	})
}

func until(t testing.TB, what string, condition func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !condition(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

// start starts a process in a cgroup below the host's, and in the test's network.
func (h *host) start(name string) *process {
	h.t.Helper()
	return h.startAs(name, &syscall.SysProcAttr{})
}

func (h *host) startAs(name string, attr *syscall.SysProcAttr) *process {
	h.t.Helper()
	return start(h.t, filepath.Join(h.point, h.make(name)), attr)
}

// read returns what stands on the host's cgroups.
func (h *host) read(listed ...string) socket.State {
	h.t.Helper()
	s, err := h.client.Read(listed, true)
	must(h.t, err)
	for path := range s.Cgroups { // those of others are at work here, too
		if path != h.cgroup && !strings.HasPrefix(path, h.cgroup+"/") {
			delete(s.Cgroups, path)
		}
	}
	return s
}

// pins is what is wanted, by cgroup.
type pins map[string]fwmark.Mark

// steps returns what leads there.
func (h *host) steps(want pins) []socket.Step {
	h.t.Helper()
	f := socket.Facts{Owners: map[fwmark.Mark]string{one: "up2", two: "up2", masked: "up2"}}
	var listed []string
	for cgroup, m := range want {
		f.Pins = append(f.Pins, fwmark.Pin{Mark: m, Uplink: "up2", Cgroups: []string{cgroup}})
		listed = append(listed, cgroup)
	}
	f.Have = h.read(listed...)
	w := socket.Decide(f)
	for _, s := range w.Services {
		if s.Packet != nil {
			h.t.Fatalf("%s is marked by packet: %s", s.Cgroup, s.Packet)
		}
	}
	return socket.Diff(f.Have, w)
}

// names is what stands, but for ids. The model's are others than the kernel's.
func names(s socket.State) map[string]string {
	text := map[string]string{}
	for path, c := range s.Cgroups {
		for _, place := range socket.Places {
			at := c.Places[place]
			for _, a := range at.Programs {
				text[path] += fmt.Sprintf("%s %s multi=%v\n", place, a.Name, at.Multi)
			}
		}
	}
	return text
}

// pin brings all of the host's cgroups to what is wanted, and returns the lines of
// the steps and what became of sockets.
func (h *host) pin(want pins) (lines []string, report Report) {
	h.t.Helper()
	for _, step := range h.steps(want) {
		thought := h.read(step.Cgroup).After(step)
		r, err := h.client.Apply(context.Background(), step)
		must(h.t, err)
		if diff := cmp.Diff(names(thought), names(h.read(step.Cgroup))); diff != "" {
			h.t.Fatalf("after %v (-thought +is):\n%s", step.Lines(), diff)
		}
		report.Seen, report.Changed, report.Refused = report.Seen+r.Seen, report.Changed+r.Changed, append(report.Refused, r.Refused...)
		lines = append(lines, step.Lines()...)
	}
	if left := h.steps(want); len(left) > 0 {
		h.t.Fatalf("left to do: %v", left)
	}
	return lines, report
}

func cleanAttr() *syscall.SysProcAttr { return &syscall.SysProcAttr{} }
