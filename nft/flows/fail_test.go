package flows

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// TestSingleFailures has the kernel refuse some entries among many: the others
// are made, and there is one error.
func TestSingleFailures(t *testing.T) {
	n := newNamespace(t)
	const count = 3*batchSize + 5
	var e entries
	n.do(func() {
		table, err := openConntrack(context.Background())
		if err != nil {
			t.Error(err)
			return
		}
		defer table.close()
		e.table = table
		for i := range count {
			s, _ := decodeSocket(diag(established, fmt.Sprintf("192.0.2.1:%d", 1000+i), "198.51.100.1:80", 7))
			f, _ := flowOf(s, nil, 99)
			if i%100 == 50 {
				f.status = seenReply // denies that it is confirmed
			}
			if err := e.add(f); err != nil {
				t.Error(err)
			}
		}
		if err := e.flush(); err != nil {
			t.Error(err)
		}
	})
	err := e.failure()
	if e.entered != count-4 || !errors.Is(err, unix.EBUSY) {
		t.Errorf("%d entered, %v", e.entered, err)
	}
	if want := "4 TCP connections failed, the first is 192.0.2.1:1050 > 198.51.100.1:80: "; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("%v, want %s", err, want)
	}
	if table := n.table(); len(table) != count-4 {
		t.Errorf("%d entries, want %d", len(table), count-4)
	}
}

// TestWithoutPrivilege reads sockets, as everybody may, and nothing more.
func TestWithoutPrivilege(t *testing.T) {
	n := newNamespace(t)
	var err error
	n.do(func() {
		header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3} // of this thread
		var none [2]unix.CapUserData
		if err := unix.Capset(&header, &none[0]); err != nil {
			t.Error(err)
			return
		}
		_, err = new(Client).Enter(context.Background())
	})
	if !errors.Is(err, os.ErrPermission) || !strings.HasPrefix(err.Error(), "open ctnetlink: ") || errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("error: %v", err)
	}
}

func TestCancelled(t *testing.T) {
	n := newNamespace(t)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	n.do(func() {
		if count, err := new(Client).Enter(ctx); count != 0 || !errors.Is(err, context.Canceled) {
			t.Errorf("%d, %v", count, err)
		}
	})
}

// TestKernelLacks: an answer that is only a number says what is missing.
func TestKernelLacks(t *testing.T) {
	n := newNamespace(t)
	n.do(func() {
		c, err := dial(context.Background(), unix.NETLINK_SOCK_DIAG)
		if err != nil {
			t.Error(err)
			return
		}
		defer c.close()
		// As for a protocol whose sock_diag is not built in.
		request := encodeRequest(unix.AF_INET, running)
		request[1] = unix.IPPROTO_IGMP
		err = c.dump(unix.SOCK_DIAG_BY_FAMILY, request, func([]byte) error { return nil })
		checkLacks(t, explained(err, "sock_diag for TCP"), "sock_diag for TCP")

		if _, err = dial(context.Background(), 31); err == nil { // no such protocol
			t.Error("opened")
		}
		checkLacks(t, explained(err, "nfnetlink"), "nfnetlink")

		table, err := openConntrack(context.Background())
		if err != nil {
			t.Error(err)
			return
		}
		defer table.close()
		probe := probe()
		probe[0].Header.Type = 200<<8 | nl.IPCTNL_MSG_CT_GET // no such subsystem
		outcomes, err := table.execute(probe)
		if err != nil {
			t.Error(err)
			return
		}
		checkLacks(t, explained(outcomes[0], "ctnetlink"), "ctnetlink")
	})
}

func checkLacks(t *testing.T, err error, what string) {
	t.Helper()
	if !errors.Is(err, errors.ErrUnsupported) || !strings.HasPrefix(err.Error(), "this kernel has no "+what+" (") {
		t.Errorf("error: %v", err)
	}
}
