package converge

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.zx2c4.com/wireguard/conn"
	"golang.zx2c4.com/wireguard/device"
	"golang.zx2c4.com/wireguard/ipc"
	"golang.zx2c4.com/wireguard/tun/tuntest"

	"wg-multihome/cmd/internal/report"
)

var tunnels atomic.Int64

// tunnel gives the testbed a wireguard-go device that is pinned to up2, and
// returns what says its mark. It has a link in name only; its name is one that
// nothing else on this machine has, as all network namespaces share the folder
// of sockets.
func (b *testbed) tunnel() (mark func() string) {
	b.t.Helper()
	name := fmt.Sprintf("wgc%d-%d", os.Getpid()%1000000, tunnels.Add(1))
	must(b.t, b.nl.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: name}, PeerName: name + "p"}))
	b.devices = append(b.devices, name)
	file, err := ipc.UAPIOpen(name)
	must(b.t, err)
	listener, err := ipc.UAPIListen(name, file)
	must(b.t, err)
	d := device.NewDevice(tuntest.NewChannelTUN().TUN(), conn.NewDefaultBind(), device.NewLogger(device.LogLevelSilent, ""))
	go func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			go d.IpcHandle(c)
		}
	}()
	b.t.Cleanup(func() {
		d.Close()
		_ = listener.Close()
		_ = file.Close()
	})
	return func() string {
		b.t.Helper()
		state, err := d.IpcGet()
		must(b.t, err)
		for _, line := range strings.Split(state, "\n") {
			if value, is := strings.CutPrefix(line, "fwmark="); is {
				return value
			}
		}
		return ""
	}
}

// TestNoMarkWithoutItsGuards refuses what holds a mark: the device gets its mark in the run
// that has them stand.
func TestNoMarkWithoutItsGuards(t *testing.T) {
	for _, guard := range []string{"+ rule 4 20002 fwmark 0x2005 unreachable", "+ rule 6 20002 fwmark 0x2005 unreachable"} {
		b := newTestbed(t)
		mark := b.tunnel()
		rep, _ := b.run(20000, guard)
		if err := errors.Join(rep.Errs...); !errors.Is(err, errRefused) {
			t.Fatalf("%s refused: %v", guard, err)
		}
		if got := mark(); got != "" {
			t.Errorf("%s refused, and the device has mark %s", guard, got)
		}
		if rep, _ := b.run(20000, ""); rep.Status() != report.Done || mark() != "8197" {
			t.Errorf("%v; the device has mark %q", rep.Errs, mark())
		}
	}
}

// TestNotedBeforeTheStep looks for the note of a device as each step that makes
// it due is made: a run that is killed right after it has lost nothing.
func TestNotedBeforeTheStep(t *testing.T) {
	b := newTestbed(t)
	b.tunnel()
	lookups := 0
	for round := range 2 {
		if round == 1 {
			changes[1].do(b) // another address
		}
		rep, _ := b.runWith(20000, &fault{at: func(step string) {
			if !strings.Contains(step, "rule 4 20001 fwmark 0x2005 lookup") {
				return
			}
			lookups++
			due, err := b.dir.Due()
			if _, noted := due[b.devices[0]]; err != nil || !noted {
				t.Errorf("%s is made, and the device is not noted: %v", step, err)
			}
		}})
		if rep.Status() != report.Done {
			t.Fatal(rep.Errs)
		}
		for device, note := range dueOf(t, b) {
			must(t, b.dir.ClearDue(device, note))
		}
	}
	if lookups < 3 {
		t.Errorf("%d steps were seen", lookups)
	}
}

func dueOf(t *testing.T, b *testbed) map[string]string {
	t.Helper()
	due, err := b.dir.Due()
	must(t, err)
	return due
}
