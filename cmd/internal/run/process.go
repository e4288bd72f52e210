package run

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"wg-multihome/cmd/internal/host"
	"wg-multihome/cmd/internal/logging"
	"wg-multihome/cmd/internal/systemd"
	"wg-multihome/fwmark"
	"wg-multihome/nft/cgroup"
)

// process is a process of this program that waits, in a cgroup of its own, to
// become the command.
type process struct {
	log     *logging.Logger
	cmd     *exec.Cmd
	orders  *os.File // our end of its socket
	mount   cgroup.Mount
	slice   string
	scope   string // its cgroup
	systemd bool   // which made the cgroup, and removes it
	ended   bool

	terminal *terminal           // of the command's own; nil: its caller's, if any
	stops    chan syscall.Signal // what has stopped the command there
}

// ready is what the process says once it waits.
const ready = 'r'

// startLimit bounds how long the process may take to be in its place; systemd
// itself gives up after 25 s.
const startLimit = 30 * time.Second

// tries bounds how often a cgroup is made that another run, at its clean-up,
// removes before there is a process in it.
const tries = 20

// newProcess starts a process that waits in its place.
func newProcess(ctx context.Context, log *logging.Logger, mount cgroup.Mount, pin fwmark.Pin, user *privileges) (*process, error) {
	name := fmt.Sprintf("run-%d-%s.scope", os.Getpid(), random())
	slice := cgroup.RunSlice(pin.Mark, pin.Uplink)
	p := &process{log: log, mount: mount, slice: slice, scope: slice + "/" + name}
	if user != nil {
		t, err := newTerminal(user.UID)
		if err != nil {
			return nil, err
		}
		p.terminal, p.stops = t, make(chan syscall.Signal, 16)
	}
	args := []string{fmt.Sprintf("/proc/%d/exe", os.Getpid()), insideArg} // itself, also where the file was replaced
	if command := systemd.RunPath(); command != "" {                      // else cgroups are ours to make
		p.systemd = true
		args = append([]string{
			command, "--scope", "--quiet", "--collect", "--no-ask-password", "--slice=" + cgroup.RunUnit(pin.Mark, pin.Uplink),
			"--unit=" + name, "--description=wg-multihome run, uplink " + pin.Uplink + ", mark " + pin.Mark.String(), "--",
		}, args...)
	}
	if err := p.start(args); err != nil {
		return nil, err
	}
	if err := p.settle(ctx); err != nil {
		p.cleanUp()
		return nil, err
	}
	return p, nil
}

func random() string {
	b := make([]byte, 4)
	_, _ = rand.Read(b) // it never fails: crypto/rand
	return fmt.Sprintf("%x", b)
}

// start starts the process with one end of a socket. Its number is an argument
// and it is not os/exec's ExtraFiles: those would cover descriptors that the
// caller has opened for the command. It has next to no environment, for the
// order brings the command's; so systemd-run sees nothing of that either.
func (p *process) start(args []string) error {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err == nil {
		err = unix.SetNonblock(fds[0], true) // so that it can have a deadline
	}
	if err == nil {
		_, err = unix.FcntlInt(uintptr(fds[1]), unix.F_SETFD, 0)
	}
	if err != nil {
		return fmt.Errorf("make a socket: %w", err)
	}
	theirs := os.NewFile(uintptr(fds[1]), "order")
	defer theirs.Close()
	p.orders = os.NewFile(uintptr(fds[0]), "order")
	args = append(args, strconv.Itoa(fds[1]))
	if p.terminal != nil {
		args = append(args, strconv.Itoa(p.terminal.tty))
	}
	p.cmd = exec.Command(args[0], args[1:]...) // systemd-run, by absolute path, or this program
	p.cmd.Env = []string{systemd.Path}
	p.cmd.Stdin, p.cmd.Stdout, p.cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	if err := p.cmd.Start(); err != nil {
		_ = p.orders.Close() // nothing was written
		if p.terminal != nil {
			p.terminal.release()
		}
		return err
	}
	if p.terminal != nil {
		p.terminal.handOver()
	}
	return nil
}

// settle waits until the process is in its place.
func (p *process) settle(ctx context.Context) error {
	if err := p.orders.SetReadDeadline(time.Now().Add(startLimit)); err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { _ = p.orders.SetReadDeadline(time.Unix(1, 0)) })()
	if _, err := p.orders.Read(make([]byte, 1)); err != nil {
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return fmt.Errorf("%s did not start the process of the command: %w", p.cmd.Path, err)
	}
	if !p.systemd {
		if err := p.enter(); err != nil {
			return err
		}
	}
	return p.check()
}

// enter makes the cgroup and moves the process there. Cgroups of earlier runs
// that were left to grandchildren go, where those have ended.
func (p *process) enter() error {
	for try := 1; ; try++ {
		err := p.mount.Make(p.scope)
		if err == nil {
			err = p.mount.Enter(p.scope, p.cmd.Process.Pid)
		}
		if err == nil {
			if _, err := p.mount.RemoveIdle(p.slice); err != nil {
				p.log.Errorf("%s", err)
			}
			return nil
		}
		if removed := errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV); !removed || try == tries {
			return err
		}
	}
}

// Collect removes the cgroups of earlier runs where nothing lives any more: what
// they had left behind has ended since. Systemd removes its own.
func Collect() []error {
	if host.Privileged() != nil || systemd.RunPath() != "" {
		return nil
	}
	mount, err := cgroup.Find()
	if err != nil {
		return nil // who looks for services says so
	}
	runs, err := mount.Runs()
	if err != nil {
		return []error{err}
	}
	var errs []error
	for _, r := range runs {
		if _, err := mount.RemoveIdle(r.Slice.Path); err != nil {
			errs = append(errs, fmt.Errorf("remove what commands of `run` have left: %w", err))
		}
	}
	return errs
}

// check makes sure of where the process is, whoever has put it there.
func (p *process) check() error {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", p.cmd.Process.Pid))
	if err != nil {
		return err
	}
	want := "0::" + p.mount.Name(p.scope)
	for _, line := range bytes.Split(text, []byte("\n")) {
		if string(line) == want {
			return nil
		}
	}
	return fmt.Errorf("the process of the command is not in cgroup %s, but in %.500q", p.scope, text)
}

// send gives the order: from now on the process is the command, or supervises it.
func (p *process) send(o order) error {
	t := p.terminal
	if t == nil {
		err := o.write(p.orders)
		return errors.Join(err, p.orders.Close())
	}
	t.leads = t.direct && t.inForeground()
	o.Foreground = t.leads
	if t.leads {
		t.take() // before the command writes: its terminal has made lines of what it shows
	}
	if err := errors.Join(p.orders.SetReadDeadline(time.Time{}), o.write(p.orders)); err != nil {
		return err
	}
	go p.readStops()
	return nil
}

// removalTries times removalPoll is how long systemd is given to remove an
// empty cgroup.
const (
	removalTries = 100
	removalPoll  = 10 * time.Millisecond
)

// end ends a process that got no order.
func (p *process) end() {
	_ = p.orders.Close() // which tells it
	if !p.ended {
		_ = p.cmd.Process.Kill() // and systemd-run too, if it is that still
		p.wait()
	}
}

// cleanUp removes the cgroup, unless a process lives in it: a later run does
// then. Systemd removes its own, a little later.
func (p *process) cleanUp() {
	p.end()
	if p.systemd {
		for range removalTries {
			if populated, err := p.mount.Populated(p.scope); populated || err != nil {
				return
			}
			if _, there, err := p.mount.Resolve(p.scope); !there || err != nil {
				return
			}
			time.Sleep(removalPoll)
		}
		return
	}
	left, err := p.mount.Remove(p.scope)
	switch {
	case err != nil:
		p.log.Errorf("%s", err)
	case left:
		p.log.Debugf("processes live on in cgroup %s", p.scope)
	}
}
