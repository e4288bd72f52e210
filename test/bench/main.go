// Bench measures the program as whole processes, each beside a peer that does
// the same work by other means, in turn in one run: A B A B and so on. It
// prints medians, and judges nothing.
//
// It takes root. All that it changes is in namespaces of its own.
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
	"text/tabwriter"
)

// insideVariable says that this process is in its namespaces; it is the binary
// to measure.
const insideVariable = "BENCH_INSIDE"

func main() {
	o := options{}
	flag.IntVar(&o.rounds, "rounds", 25, "runs of each command")
	flag.StringVar(&o.binary, "binary", "", "`FILE` to measure; the program is built where it is not given")
	flag.StringVar(&o.before, "before", "", "`FILE` of another build, measured in turn with the other two")
	flag.Usage = func() {
		fmt.Fprintf(flag.CommandLine.Output(), "usage: bench [FLAGS] [CASE...], of %s\n", strings.Join(names(), ", "))
		flag.PrintDefaults()
	}
	flag.Parse()
	if o.rounds < 1 {
		o.rounds = 1
	}
	var err error
	if o.chosen, err = chosen(flag.Args()); err == nil {
		if os.Getenv(insideVariable) != "" {
			err = o.inside()
		} else {
			err = o.outside()
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

type options struct {
	rounds         int
	binary, before string
	chosen         []benchCase
}

func names() []string {
	var list []string
	for _, c := range cases {
		list = append(list, c.name)
	}
	return list
}

func chosen(args []string) ([]benchCase, error) {
	if len(args) == 0 {
		return cases, nil
	}
	var list []benchCase
	for _, a := range args {
		i := slices.Index(names(), a)
		if i < 0 {
			return nil, fmt.Errorf("no case %q: there are %s", a, strings.Join(names(), ", "))
		}
		list = append(list, cases[i])
	}
	return list, nil
}

// outside builds the program and runs this one again, in namespaces of its own.
func (o options) outside() error {
	if os.Geteuid() != 0 {
		return errors.New("making namespaces takes root")
	}
	binary := o.binary
	if binary == "" {
		dir, err := os.MkdirTemp("", "wg-multihome-bench")
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		binary = filepath.Join(dir, "wg-multihome")
		build := exec.Command("go", "build", "-o", binary, "wg-multihome/cmd/wg-multihome")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		build.Stderr = os.Stderr
		if err := build.Run(); err != nil {
			return fmt.Errorf("build the program: %w", err)
		}
	}
	again := exec.Command("/proc/self/exe", os.Args[1:]...)
	again.Env = append(os.Environ(), insideVariable+"="+binary)
	again.Stdout, again.Stderr = os.Stdout, os.Stderr
	again.SysProcAttr = &syscall.SysProcAttr{
		Unshareflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS | syscall.CLONE_NEWUTS,
		Pdeathsig:    syscall.SIGKILL,
	}
	return again.Run()
}

func (o options) inside() error {
	binary, err := filepath.Abs(os.Getenv(insideVariable))
	if err != nil {
		return err
	}
	if o.before != "" {
		if o.before, err = filepath.Abs(o.before); err != nil {
			return err
		}
	}
	if err := separate(); err != nil {
		return err
	}
	out := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	for _, c := range o.chosen {
		h := host{binary}
		if err := h.build(); err != nil {
			return err
		}
		contenders, err := c.contenders(h)
		if err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
		if o.before != "" {
			contenders = append(contenders, contenders[0].with(binary, o.before))
		}
		runs, err := interleave(o.rounds, contenders)
		if err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
		fmt.Fprintf(out, "%s\ttarget: %s\n", c.name, c.target)
		report(out, contenders, runs)
		if err := out.Flush(); err != nil {
			return err
		}
	}
	return nil
}
