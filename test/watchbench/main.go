// Watchbench measures how long after another's act the kernel is right again, while
// `wg-multihome watch` runs, and what that costs.
//
//	go run ./test/watchbench [-acts 1000] [-pause 350ms] [-load 20s] [-idle 20s] [-addresses 0] [-routes 0] [NAME...]
//
// It makes a host with four uplinks, in namespaces of its own, and takes root. For each
// kind of act it prints the median, the 99th percentile and the worst, in milliseconds,
// and what became of packets that are pinned to the second uplink; then what watch takes
// under load, and while nothing happens. NAME is a kind of act or of load; all are
// measured where none is named.
//
// Each act begins when the kernel has been asked for it, and ends when the kernel tells
// that the last of what it took stands again.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// roleVariable says what this process is, where it is not the one that was started.
const roleVariable = "WATCHBENCH_ROLE"

// binaryVariable holds the program's path for the host's process.
const binaryVariable = "WATCHBENCH_BINARY"

type options struct {
	acts, addresses, routes int
	pause, idle, load       time.Duration
	binary                  string
	only                    []string
}

func main() {
	var o options
	flag.IntVar(&o.acts, "acts", 1000, "acts of each kind")
	flag.DurationVar(&o.pause, "pause", 350*time.Millisecond, "between them")
	flag.IntVar(&o.addresses, "addresses", 0, "further addresses of the first uplink")
	flag.IntVar(&o.routes, "routes", 0, "foreign routes, in a table that no rule looks up")
	flag.DurationVar(&o.load, "load", 20*time.Second, "how long each load lasts")
	flag.DurationVar(&o.idle, "idle", 20*time.Second, "how long it is watched while nothing happens")
	flag.StringVar(&o.binary, "binary", "", "the program; it is built otherwise")
	flag.Usage = func() {
		fmt.Fprintf(flag.CommandLine.Output(), "usage: watchbench [FLAGS] [NAME...], of %s\n", strings.Join(names(), ", "))
		flag.PrintDefaults()
	}
	flag.Parse()
	o.only = flag.Args()
	work := map[string]func() error{"": o.outside, "host": o.host, "isp": isp, "wireguard": wireguard}[os.Getenv(roleVariable)]
	if err := work(); err != nil {
		fmt.Fprintln(os.Stderr, "watchbench:", err)
		os.Exit(1)
	}
}

// names are those of all that is measured.
func names() []string {
	var list []string
	for _, a := range acts() {
		list = append(list, a.name)
	}
	for _, l := range loads() {
		list = append(list, l.name)
	}
	return list
}

// measures reports whether something is to be measured.
func (o options) measures(name string) bool { return len(o.only) == 0 || slices.Contains(o.only, name) }

// outside builds the program, and runs this one again in namespaces of its own. All
// processes end with it, as it is the first of its namespace.
func (o options) outside() error {
	for _, name := range o.only {
		if !slices.Contains(names(), name) {
			return fmt.Errorf("nothing is called %q: there are %s", name, strings.Join(names(), ", "))
		}
	}
	if os.Geteuid() != 0 {
		return errors.New("making namespaces takes root")
	}
	binary := o.binary
	if binary == "" {
		dir, err := os.MkdirTemp("", "wg-multihome-watchbench")
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		binary = filepath.Join(dir, "wg-multihome")
		build := exec.Command("go", "build", "-o", binary, "wg-multihome/cmd/wg-multihome")
		build.Env, build.Stderr = append(os.Environ(), "CGO_ENABLED=0"), os.Stderr
		if err := build.Run(); err != nil {
			return fmt.Errorf("build the program: %w", err)
		}
	}
	binary, err := filepath.Abs(binary)
	if err != nil {
		return err
	}
	cgroups, err := makeCgroups()
	if err != nil {
		return err
	}
	defer cgroups.remove()
	again := exec.Command("/proc/self/exe", os.Args[1:]...)
	again.Env = append(os.Environ(), roleVariable+"=host", binaryVariable+"="+binary, cgroupsVariable+"="+cgroups.dir)
	again.Stdout, again.Stderr = os.Stdout, os.Stderr
	again.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS, Cloneflags: syscall.CLONE_NEWPID, Pdeathsig: syscall.SIGKILL}
	return again.Run()
}

// script runs lines of shell.
func script(lines string) error {
	out, err := exec.Command("sh", "-euc", lines).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}
