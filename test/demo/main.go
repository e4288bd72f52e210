// Demo shows the promise on the machine of whoever asks, without root: a host
// with two uplinks, and a minute of what befalls it.
//
//	go run ./test/demo [--seconds 60] [--binary FILE] [--shell]
//
// Two copies of the host live through the same events. In one a stand-in of the
// shell hook that this program came from keeps the rules, in the other this
// program does. A sender on each is pinned to the second uplink, and what is
// counted are its packets, where the ISPs get them:
//
//	          up1 --- home [isp1] far --- isp1
//	[host]                               [far]   203.0.113.1
//	          up2 --- home [isp2] far --- isp2
//
// All of it is real: packets, rules, processes that are killed. Leases come by the
// environment that dhclient gives to its hooks, as no DHCP client runs without root.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

// roleVariable says what this process is, where it is not the one that was called.
const roleVariable = "WG_MULTIHOME_DEMO"

type options struct {
	seconds int
	binary  string
	shell   bool
}

func main() {
	if err := play(os.Getenv(roleVariable), os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

func play(role string, args []string) error {
	switch role {
	case shellHookRole:
		return shellHook(os.Getenv)
	case ipRole:
		return ip(args)
	}
	var o options
	flags := flag.NewFlagSet("demo", flag.ExitOnError)
	flags.IntVar(&o.seconds, "seconds", 60, "how long it lasts, 6 to 80")
	flags.StringVar(&o.binary, "binary", "", "`FILE` of the program; else the one that is installed beside this one, or it is built")
	flags.BoolVar(&o.shell, "shell", false, "in the end, open a shell on the host that wg-multihome keeps")
	_ = flags.Parse(args) // it exits by itself
	if flags.NArg() > 0 || o.seconds < 6 || o.seconds > 80 {
		flags.Usage()
		os.Exit(2)
	}
	if role == insideRole {
		return o.inside()
	}
	return o.outside()
}

// length is that of the demo.
func (o options) length() time.Duration { return time.Duration(o.seconds) * time.Second }

// outside runs this program again, as root of a user namespace of its own.
func (o options) outside() error {
	binary, remove, err := program(o.binary)
	if err != nil {
		return err
	}
	defer remove()
	again := exec.Command("/proc/self/exe", "--seconds", strconv.Itoa(o.seconds), "--binary", binary, fmt.Sprintf("--shell=%t", o.shell))
	again.Args[0] = os.Args[0]
	again.Env = append(os.Environ(), roleVariable+"="+insideRole)
	again.Stdin, again.Stdout, again.Stderr = os.Stdin, os.Stdout, os.Stderr
	again.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS | syscall.CLONE_NEWNET,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
		Pdeathsig:   syscall.SIGKILL,
	}
	// Whatever ends this process, what it has built goes.
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, os.Interrupt, syscall.SIGTERM)
	if err := again.Start(); err != nil {
		return denied(err)
	}
	go func() {
		<-stop
		_ = again.Process.Kill()
	}()
	var exit *exec.ExitError
	if err := again.Wait(); errors.As(err, &exit) {
		remove()
		os.Exit(max(exit.ExitCode(), 1)) // it has said why
	} else if err != nil {
		return err
	}
	return nil
}

// program finds the program under test, or builds it.
func program(given string) (path string, remove func(), err error) {
	remove = func() {}
	if given != "" {
		path, err = filepath.Abs(given)
		return path, remove, err
	}
	own, err := os.Executable()
	if err != nil {
		return "", remove, err
	}
	for _, beside := range []string{"wg-multihome", "../sbin/wg-multihome"} {
		path = filepath.Join(filepath.Dir(own), beside)
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() {
			return path, remove, nil
		}
	}
	dir, err := os.MkdirTemp("", "wg-multihome-demo")
	if err != nil {
		return "", remove, err
	}
	remove = func() { _ = os.RemoveAll(dir) }
	path = filepath.Join(dir, "wg-multihome")
	build := exec.Command("go", "build", "-o", path, "wg-multihome/cmd/wg-multihome")
	build.Env, build.Stderr = append(os.Environ(), "CGO_ENABLED=0"), os.Stderr
	if err := build.Run(); err != nil {
		remove()
		return "", remove, fmt.Errorf("build the program (--binary FILE names one that is there): %w", err)
	}
	return path, remove, nil
}
