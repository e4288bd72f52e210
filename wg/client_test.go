package wg

import (
	"bufio"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.zx2c4.com/wireguard/conn"
	"golang.zx2c4.com/wireguard/device"
	"golang.zx2c4.com/wireguard/ipc"
	"golang.zx2c4.com/wireguard/tun/tuntest"
)

// secret is a private key; no error may show a part of it.
var secret = strings.Repeat("5a", 32)

// nameFor gives a test's device a name that nothing else on this host has: the
// folder of sockets is shared by all network namespaces.
func nameFor(i int) string { return fmt.Sprintf("wgt%d-%d", os.Getpid()%1000000, i) }

// run starts a wireguard-go device, without an interface: its other end of the
// tunnel is a channel.
func run(t *testing.T, name string) *device.Device {
	t.Helper()
	file, err := ipc.UAPIOpen(name)
	if err != nil {
		t.Skipf("no socket in /var/run/wireguard (it takes root): %v", err)
	}
	listener, err := ipc.UAPIListen(name, file)
	if err != nil {
		t.Fatal(err)
	}
	dev := device.NewDevice(tuntest.NewChannelTUN().TUN(), conn.NewDefaultBind(), device.NewLogger(device.LogLevelSilent, ""))
	if err := dev.IpcSet("private_key=" + secret + "\n"); err != nil {
		t.Fatal(err)
	}
	go func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			go dev.IpcHandle(c)
		}
	}()
	t.Cleanup(func() {
		dev.Close()
		_ = listener.Close()
		_ = file.Close()
		_ = os.Remove(uapi.path(name))
	})
	return dev
}

func open(t *testing.T) *Client {
	t.Helper()
	c, err := Open()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func TestRealDevice(t *testing.T) {
	a, b := nameFor(1), nameFor(2)
	run(t, a)
	dev := run(t, b)
	c := open(t)
	ctx := context.Background()
	expect := func(want ...Device) {
		t.Helper()
		got, errs := c.Read(ctx, []string{b, "lo", a, nameFor(99)})
		if errs != nil || !slices.Equal(got, want) {
			t.Errorf("got %v %v, want %v", got, errs, want)
		}
	}
	expect(Device{b, 0}, Device{a, 0})
	for _, mark := range []uint32{0x2005, 0x2005, 0x80000000, 0xffffffff, 0x7fffffff, 0} {
		if err := c.Apply(ctx, Change{Device: b, Mark: mark}); err != nil {
			t.Error(err)
		}
		expect(Device{b, mark}, Device{a, 0})
		has, err := dev.IpcGet()
		if want := fmt.Sprintf("fwmark=%d\n", mark); err != nil || strings.Contains(has, "fwmark") != (mark != 0) || mark != 0 && !strings.Contains(has, want) {
			t.Errorf("the device does not have %s", want)
		}
		if !strings.Contains(has, "private_key=") {
			t.Error("the device lost its key")
		}
	}
	if err := c.Apply(ctx, Change{Device: nameFor(99), Mark: 7}); err != nil {
		t.Errorf("a device that is not there: %v", err)
	}
}

// TestSocket is what a 32-bit build does for large marks, on every machine.
func TestSocket(t *testing.T) {
	name := nameFor(3)
	run(t, name)
	for _, mark := range []uint32{0x2005, 0xffffffff, 0} {
		if err := uapi.set(name, mark); err != nil {
			t.Error(err)
		}
		if got, err := uapi.get(name); err != nil || got.Mark != mark {
			t.Errorf("got %#x %v, want %#x", got.Mark, err, mark)
		}
	}
	if _, err := uapi.get(nameFor(99)); !absent(err) {
		t.Errorf("no socket: %v", err)
	}
}

// listen makes a socket that looks like a device's.
func listen(t *testing.T, name string) *net.UnixListener {
	t.Helper()
	if err := os.MkdirAll(uapi.dir, 0o755); err != nil {
		t.Skipf("it takes root: %v", err)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: uapi.path(name)})
	if err != nil {
		t.Skipf("it takes root: %v", err)
	}
	t.Cleanup(func() { _ = l.Close(); _ = os.Remove(uapi.path(name)) })
	return l
}

// answer serves one text for each request.
func answer(l net.Listener, text string) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		for r := bufio.NewReader(c); ; {
			if line, err := r.ReadString('\n'); err != nil || line == "\n" {
				break
			}
		}
		_, _ = c.Write([]byte(text))
		_ = c.Close()
	}
}

func TestStaleSocket(t *testing.T) {
	stale, alive := nameFor(4), nameFor(5)
	l := listen(t, stale)
	l.SetUnlinkOnClose(false)
	_ = l.Close()
	run(t, alive)
	c := open(t)
	got, errs := c.Read(context.Background(), []string{stale, alive})
	if errs != nil || !slices.Equal(got, []Device{{alive, 0}}) {
		t.Errorf("got %v %v", got, errs)
	}
	if err := c.Apply(context.Background(), Change{Device: stale, Mark: 7}); err != nil {
		t.Error(err)
	}
	if _, err := uapi.get(stale); !errors.Is(err, syscall.ECONNREFUSED) || !absent(err) {
		t.Errorf("got %v", err)
	}
}

func TestHungDevice(t *testing.T) {
	hung, alive := nameFor(6), nameFor(7)
	listen(t, hung)
	run(t, alive)
	c := open(t)
	for _, want := range []struct {
		text string
		time time.Duration
	}{{"no answer within 2s", callTime}, {"no answer since an earlier call", 0}} {
		began := time.Now()
		got, errs := c.Read(context.Background(), []string{hung, alive})
		took := time.Since(began)
		if !slices.Equal(got, []Device{{alive, 0}}) || len(errs) != 1 || !strings.Contains(errs[0].Error(), hung) || !strings.Contains(errs[0].Error(), want.text) {
			t.Errorf("got %v %v", got, errs)
		}
		if took < want.time || took > want.time+callTime {
			t.Errorf("it took %v", took)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	other := nameFor(8)
	listen(t, other)
	if err := c.Apply(ctx, Change{Device: other, Mark: 7}); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "= wg "+other) {
		t.Errorf("ctx ended: %v", err)
	}
}

// An answer that cannot be parsed may hold a key where wgctrl's error quotes it.
func TestAnswers(t *testing.T) {
	half := secret[:20]
	for i, text := range []string{
		"private_key=" + half + "=" + half + "\n\n",
		"private_key=" + half + "z\n\n",
		"private_key=" + half + "\n\n",
		"fwmark=" + secret + "\nerrno=0\n\n",
		"fwmark=-5" + half + "\nerrno=0\n\n",
		"errno=" + secret + "\n\n",
		"errno=-22\n\n",
		"errno=1\n\n",
		"public_key=" + secret + "\nendpoint=" + secret + "\nerrno=0\n\n",
	} {
		name := nameFor(20 + i)
		go answer(listen(t, name), text)
		c := open(t)
		_, errs := c.Read(context.Background(), []string{name})
		_, sockErr := uapi.get(name)
		errs = append(errs, c.Apply(context.Background(), Change{Device: name, Mark: 7}), sockErr)
		for _, err := range errs {
			if err != nil && (strings.Contains(err.Error(), half) || strings.Contains(err.Error(), "5a5a")) {
				t.Errorf("%q: a key in %v", text, err)
			}
		}
		if errs[0] == nil || !strings.Contains(errs[0].Error(), name) {
			t.Errorf("%q: error %v", text, errs[0])
		}
		if strings.HasPrefix(text, "errno=-22") && !errors.Is(errs[0], syscall.EINVAL) {
			t.Errorf("%q: error %v", text, errs[0])
		}
	}
}

func TestReadBack(t *testing.T) {
	name := nameFor(9)
	go answer(listen(t, name), "fwmark=8\nerrno=0\n\n")
	err := open(t).Apply(context.Background(), Change{Device: name, Mark: 7})
	// wgctrl takes an answer to `set` for an error unless it is errno alone.
	if err == nil || !strings.Contains(err.Error(), "= wg "+name+" fwmark 0x7: ") {
		t.Errorf("got %v", err)
	}
	c := &Client{ctrl: deaf{}, hangs: map[string]bool{}}
	err = c.Apply(context.Background(), Change{Device: "wg0", Mark: 7})
	if err == nil || err.Error() != "= wg wg0 fwmark 0x7: the device has 0x80000001 after it was set" {
		t.Errorf("got %v", err)
	}
}

func TestExplained(t *testing.T) {
	key := hex.EncodeToString([]byte("private"))
	for _, c := range []struct {
		err  error
		want string
	}{
		{syscall.EPERM, "not permitted, it takes CAP_NET_ADMIN (and root for a userspace device): operation not permitted"},
		{&fs.PathError{Op: "open", Path: uapi.dir, Err: syscall.EACCES}, "not permitted, it takes CAP_NET_ADMIN (and root for a userspace device): open /var/run/wireguard: permission denied"},
		{syscall.EOPNOTSUPP, "operation not supported"},
		{os.NewSyscallError("read", errors.New("wguser: errno=-98")), "the device answered: address already in use"},
		{os.NewSyscallError("read", errors.New("wguser: private_key="+key)), "its answer cannot be read"},
		{errors.New(key), "its answer cannot be read"},
	} {
		if got := explained(c.err).Error(); got != c.want {
			t.Errorf("got  %s\nwant %s", got, c.want)
		}
	}
	if got := explained(syscall.EPERM); !errors.Is(got, os.ErrPermission) {
		t.Errorf("%v is no ErrPermission", got)
	}
}

func TestSocketPath(t *testing.T) {
	if got, want := uapi.path("wg0.5"), filepath.Join("/var/run/wireguard", "wg0.5.sock"); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
