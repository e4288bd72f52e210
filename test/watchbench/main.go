// Watchbench measures how long after another's act the kernel is right again, while
// `wg-multihome watch` runs, and what that costs.
//
//	go run ./test/watchbench [-acts 1000] [-pause 350ms] [-addresses 0] [-routes 0] [ACT...]
//
// It makes a host with four uplinks, in namespaces of its own, and takes root. It
// prints a line for each kind of act: the median, the 99th percentile and the worst,
// in milliseconds; then what watch takes while nothing happens.
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

// insideVariable holds the program's path where this one runs in its namespaces.
const insideVariable = "WATCHBENCH_BINARY"

type options struct {
	acts, addresses, routes int
	pause, idle             time.Duration
	binary                  string
	only                    []string
}

func main() {
	var o options
	flag.IntVar(&o.acts, "acts", 1000, "acts of each kind")
	flag.DurationVar(&o.pause, "pause", 350*time.Millisecond, "between them")
	flag.IntVar(&o.addresses, "addresses", 0, "further addresses of the first uplink")
	flag.IntVar(&o.routes, "routes", 0, "foreign routes, in a table that no rule looks up")
	flag.DurationVar(&o.idle, "idle", 20*time.Second, "how long it is watched while nothing happens")
	flag.StringVar(&o.binary, "binary", "", "the program; it is built otherwise")
	flag.Parse()
	o.only = flag.Args()
	work := o.outside
	if os.Getenv(insideVariable) != "" {
		work = o.inside
	}
	if err := work(); err != nil {
		fmt.Fprintln(os.Stderr, "watchbench:", err)
		os.Exit(1)
	}
}

func (o options) outside() error {
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
	again := exec.Command("/proc/self/exe", os.Args[1:]...)
	again.Env = append(os.Environ(), insideVariable+"="+binary)
	again.Stdout, again.Stderr = os.Stdout, os.Stderr
	again.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	return again.Run()
}

const configuration = "/run/watchbench.toml"

func script(lines string) error {
	out, err := exec.Command("sh", "-euc", lines).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}

// build makes the host.
func (o options) build() error {
	var b, toml strings.Builder
	b.WriteString("mount --make-rprivate /; mount -t tmpfs none /run; ip link set lo up\n")
	for i := 1; i <= 4; i++ {
		fmt.Fprintf(&b, `ip link add wan%[1]d type veth peer name isp%[1]d; ip link set wan%[1]d up; ip link set isp%[1]d up
ip addr add 198.51.%[1]d.10/24 dev wan%[1]d; ip route add default via 198.51.%[1]d.1 dev wan%[1]d metric %[1]d
`, i)
		fmt.Fprintf(&toml, "[uplink.wan%d]\nfwmark = %#x\n", i, 0x1000*i)
	}
	if o.addresses > 0 {
		fmt.Fprintf(&b, "for i in $(seq 1 %d); do echo addr add 10.50.$((i/250)).$((i%%250+1))/32 dev wan1; done | ip -batch -\n", o.addresses)
	}
	if o.routes > 0 {
		fmt.Fprintf(&b, "for i in $(seq 1 %d); do echo route add blackhole 20.$((i/65536)).$((i/256%%256)).$((i%%256)) table 900; done | ip -batch -\n", o.routes)
	}
	if err := script(b.String()); err != nil {
		return err
	}
	return os.WriteFile(configuration, []byte(toml.String()), 0o600)
}

func (o options) inside() error {
	if err := o.build(); err != nil {
		return err
	}
	heard := make(chan string, 1000)
	if err := hear(heard); err != nil {
		return err
	}
	watch := exec.Command(os.Getenv(insideVariable), "watch", "--config", configuration)
	log, err := os.Create("/run/watchbench.log")
	if err != nil {
		return err
	}
	defer log.Close()
	watch.Stderr = log
	watch.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := watch.Start(); err != nil {
		return err
	}
	defer func() {
		_ = watch.Process.Signal(syscall.SIGTERM)
		_ = watch.Wait()
	}()
	b := bench{heard: heard, pid: watch.Process.Pid}
	b.quiet(2 * time.Second)
	for _, a := range acts() {
		if len(o.only) > 0 && !slices.Contains(o.only, a.name) {
			continue
		}
		if err := b.run(a, o); err != nil {
			text, _ := os.ReadFile(log.Name())
			return fmt.Errorf("%s: %w\n%s", a.name, err, text[max(0, len(text)-2000):])
		}
	}
	return b.idle(o.idle)
}

// bench acts, and hears what watch makes of it.
type bench struct {
	heard <-chan string
	pid   int
}

// patience is how long an act may take to be mended.
const patience = 20 * time.Second

// quiet takes what is heard until nothing was for a while.
func (b bench) quiet(while time.Duration) {
	for {
		select {
		case <-b.heard:
		case <-time.After(while):
			return
		}
	}
}

// run acts again and again.
func (b bench) run(a act, o options) error {
	times := make([]time.Duration, 0, o.acts)
	before := b.cpu()
	for i := range o.acts {
		if a.prepare != nil {
			if err := a.prepare(i); err != nil {
				return err
			}
		}
		b.quiet(o.pause)
		began := time.Now()
		if err := a.do(i); err != nil {
			return err
		}
		if err := b.wait(a.right(i)); err != nil {
			return err
		}
		times = append(times, time.Since(began))
	}
	cpu := (b.cpu() - before) / time.Duration(o.acts)
	slices.Sort(times)
	at := func(share float64) float64 {
		return float64(times[min(len(times)-1, int(share*float64(len(times))))]) / float64(time.Millisecond)
	}
	fmt.Printf("%-24s %d acts  median %6.2f ms  p99 %6.2f ms  worst %6.2f ms  CPU of watch %5.2f ms an act\n",
		a.name, len(times), at(0.5), at(0.99), at(1), float64(cpu)/float64(time.Millisecond))
	return nil
}

// wait waits until everything of a list was heard.
func (b bench) wait(texts []string) error {
	left := map[string]bool{}
	for _, text := range texts {
		left[text] = true
	}
	end := time.After(patience)
	for len(left) > 0 {
		select {
		case text := <-b.heard:
			delete(left, text)
		case <-end:
			return errors.New("it is not mended: " + fmt.Sprint(left))
		}
	}
	return nil
}
