package main

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"
)

// contender is a command that is measured.
type contender struct {
	name   string
	args   []string
	env    []string
	before func() error // brings the host to where the command begins; not measured
}

// with is the same command of another build.
func (c contender) with(binary, other string) contender {
	c.name, c.args = "before", slices.Clone(c.args)
	for i, a := range c.args {
		c.args[i] = strings.ReplaceAll(a, binary, other)
	}
	return c
}

// usage is what one run took.
type usage struct {
	wall time.Duration
	cpu  time.Duration // user and system, of the command and of its children
	peak int64         // of the largest process among them, in KiB; at least this program's own
}

const path = "PATH=/usr/sbin:/usr/bin:/sbin:/bin"

func (c contender) run() (usage, error) {
	if c.before != nil {
		if err := c.before(); err != nil {
			return usage{}, err
		}
	}
	cmd := exec.Command(c.args[0], c.args[1:]...)
	cmd.Env = append([]string{path}, c.env...)
	var complaint bytes.Buffer
	cmd.Stderr = &complaint
	begun := time.Now()
	err := cmd.Run()
	wall := time.Since(begun)
	if err != nil {
		return usage{}, fmt.Errorf("%s: %w: %s", c.name, err, complaint.String())
	}
	state := cmd.ProcessState
	u := usage{wall: wall, cpu: state.UserTime() + state.SystemTime()}
	if r, ok := state.SysUsage().(*syscall.Rusage); ok {
		u.peak = int64(r.Maxrss)
	}
	return u, nil
}

// interleave runs the contenders in turn, after one round that does not count,
// and returns the runs of each.
func interleave(rounds int, contenders []contender) ([][]usage, error) {
	runs := make([][]usage, len(contenders))
	for round := range rounds + 1 {
		for i, c := range contenders {
			u, err := c.run()
			if err != nil {
				return nil, err
			}
			if round > 0 {
				runs[i] = append(runs[i], u)
			}
		}
	}
	return runs, nil
}

func wall(u usage) time.Duration { return u.wall }
func cpu(u usage) time.Duration  { return u.cpu }
func peak(u usage) int64         { return u.peak }

// report writes the medians of each contender, and by how much the first one
// takes more or less than each of the others, round by round: what slows the
// machine down for a while slows both.
func report(out io.Writer, contenders []contender, runs [][]usage) {
	for i, c := range contenders {
		fmt.Fprintf(out, "  %s\t%.2f ms\t%.2f ms CPU\t%.1f MiB", c.name,
			milliseconds(middle(runs[i], wall)), milliseconds(middle(runs[i], cpu)), float64(middle(runs[i], peak))/1024)
		if i > 0 {
			fmt.Fprintf(out, "\tratio %.2f\t%.2f of CPU", ratio(runs[0], runs[i], wall), ratio(runs[0], runs[i], cpu))
		}
		fmt.Fprintln(out)
	}
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func middle[T cmp.Ordered](runs []usage, of func(usage) T) T {
	list := make([]T, len(runs))
	for i, u := range runs {
		list[i] = of(u)
	}
	return median(list)
}

func ratio(ours, theirs []usage, of func(usage) time.Duration) float64 {
	list := make([]float64, len(ours))
	for i := range ours {
		list[i] = float64(of(ours[i])) / float64(max(of(theirs[i]), 1))
	}
	return median(list)
}

func median[T cmp.Ordered](list []T) T {
	slices.Sort(list)
	return list[len(list)/2]
}

// do runs commands of which each must succeed.
func do(commands ...[]string) error {
	for _, args := range commands {
		if _, err := output(args...); err != nil {
			return err
		}
	}
	return nil
}

func output(args ...string) (string, error) {
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Env = []string{path}
	out, err := cmd.Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return "", fmt.Errorf("%q: %w: %s", args, err, exit.Stderr)
	}
	return string(out), err
}

func script(lines string) error { return do([]string{"sh", "-euc", lines}) }
