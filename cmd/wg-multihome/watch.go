package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"runtime/debug"
	"sync"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/spf13/cobra"

	"wg-multihome/cmd/internal/decide"
	"wg-multihome/cmd/internal/events"
	"wg-multihome/cmd/internal/host"
	"wg-multihome/cmd/internal/metrics"
	"wg-multihome/cmd/internal/report"
	"wg-multihome/cmd/internal/state"
	"wg-multihome/cmd/internal/tell"
	"wg-multihome/cmd/internal/watch"
	socketkernel "wg-multihome/fwmark/socket/kernel"
	"wg-multihome/nft/cgroup"
	"wg-multihome/wg"
)

// The range of --interval, and what it is unless it is given.
const (
	minInterval     = time.Second
	maxInterval     = 24 * time.Hour
	defaultInterval = 5 * time.Minute
)

// watchGC has the garbage collector of a process that stays run earlier than that
// of one that is over after some milliseconds: see gcPercent.
const watchGC = 50

func (p *program) watch() *cobra.Command {
	var interval time.Duration
	var address string
	cmd := &cobra.Command{
		Use:   "watch",
		Short: "Stay, and converge whenever something changes",
		Long: `Hears what the kernel tells of links, addresses, routes, rules, nftables, cgroups
and files, and does at once what sync does; hooks and tunnels are told beside it.
Marks of WireGuard devices, and programs that others detach, tell nothing: they
are looked at each second.

What others take away is put back at once; what is taken again and again, more
and more slowly, and the log names who does. All is looked at each --interval, at
SIGHUP, and when the machine wakes up. What is configured no longer is taken away
once the configuration was seen without it, valid and unchanged, for 5 s. On
SIGTERM, and however it ends, it leaves everything in place.

Reads: what sync reads.
Writes: what sync writes, STATE-DIR/watch.lock; with --metrics unix:PATH that
socket (mode 0660).
Exits with 0 when it is told to end; 1 another one runs, nothing can be heard, or
the address of --metrics cannot be had; 2 bad usage. An error in the configuration
does not end it: its valid part is done.`,
		Args: noArguments,
	}
	cmd.Flags().DurationVar(&interval, "interval", defaultInterval, "how often all is looked at, from 1s to 24h")
	cmd.Flags().StringVar(&address, "metrics", "", "serve Prometheus's metrics at `ADDR:PORT`, or unix:PATH")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if interval < minInterval || interval > maxInterval {
			p.logger().Errorf("--interval %s is not from %s to %s", interval, minInterval, maxInterval)
			return exitError{report.Usage}
		}
		if err := p.checkConfig(); err != nil {
			p.logger().Errorf("%s", err)
			return exitError{report.Usage}
		}
		if err := host.Privileged(); err != nil {
			return p.finish(report.Failed(err))
		}
		unlock, err := p.dir().LockWatch(cmd.Context())
		switch {
		case errors.Is(err, state.ErrBusy):
			p.logger().Errorf("another `wg-multihome watch` runs: it holds %s/watch.lock", p.state)
			return exitError{report.Error}
		case err != nil: // a full STATE-DIR is no reason to leave packets unguarded
			p.logger().Errorf("%s", err)
		default:
			defer unlock()
		}
		var listener net.Listener
		if address != "" {
			switch listener, err = metrics.Listen(address); {
			case errors.Is(err, metrics.ErrAddress):
				p.logger().Errorf("--metrics %s", err)
				return exitError{report.Usage}
			case err != nil:
				p.logger().Errorf("--metrics: %s", err)
				return exitError{report.Error}
			}
			defer listener.Close()
		}
		debug.SetGCPercent(watchGC)
		return p.finish(p.stay(cmd.Context(), interval, listener))
	}
	return cmd
}

// stay puts the rooms of the watch together, and watches until ctx ends.
func (p *program) stay(ctx context.Context, interval time.Duration, listener net.Listener) report.Report {
	source, err := events.Open(events.Options{})
	if err != nil {
		return report.Failed(err)
	}
	defer source.Close()
	if source.Lacks != nil {
		p.logger().Infof("%s", source.Lacks)
	}
	clock, err := watch.OpenClock()
	if err != nil {
		return report.Failed(err)
	}
	defer clock.Close()
	s, err := p.beginHook(false)
	if err != nil {
		return report.Failed(err)
	}
	defer s.Close()
	polls, closePolls := newPolls()
	defer closePolls()
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP) // an ignored one, as by nohup(1), is wanted here all the same
	defer signal.Stop(hangup)
	ctx, cancel := context.WithCancel(ctx)
	var wait sync.WaitGroup
	defer wait.Wait()
	defer cancel()
	meter, err := p.meter(ctx, listener, &wait)
	if err != nil {
		return report.Failed(err)
	}
	mount := mountPoint{}
	watchdog, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		p.logger().Infof("the watchdog is not fed: %s", err)
	}
	texts, err := s.keeper.Texts()
	if err != nil {
		p.logger().Infof("%s", err)
	}
	loop := &watch.Loop{
		Looker: watch.HostLooker{Host: s.host, Run: s.Run}, Hearer: source, Poller: polls, Teller: beside{p}, Meter: meter, Clock: clock,
		Log: p.logger(), Interval: interval, Watchdog: watchdog, Hangup: hangup, Notify: p.notify, Tidy: watch.Tidy, Places: mount.places, Texts: texts,
	}
	wait.Add(1)
	go func() {
		defer wait.Done()
		polls.Run(ctx)
	}()
	err = loop.Run(ctx)
	cancel()
	if err != nil {
		return report.Failed(err)
	}
	p.notify(daemon.SdNotifyStopping)
	return report.Report{}
}

// notify tells systemd, where it wants to be told.
func (p *program) notify(state string) {
	if _, err := daemon.SdNotify(false, state); err != nil {
		p.logger().Debugf("tell systemd %q: %s", state, err)
	}
}

// mountPoint is where cgroup2 is mounted, as found with the last look at all.
type mountPoint struct{ path string }

func (m *mountPoint) places(d decide.Decision, full bool) []events.Place {
	if full {
		m.path = ""
		if mount, err := cgroup.Find(); err == nil {
			m.path = mount.Point
		}
	}
	files, folders := d.Config.Places()
	return watch.Places(d, files, folders, m.path)
}

// newPolls makes what looks each second, with clients of its own: a device that is
// silent keeps nothing else back.
func newPolls() (polls *watch.Polls, done func()) {
	var devices *wg.Client
	var programs *socketkernel.Client
	polls = watch.NewPolls()
	polls.Devices = func(ctx context.Context, names []string) []wg.Detail {
		if devices == nil {
			c, err := wg.Open()
			if err != nil {
				return nil // the loop's own has said so
			}
			devices = c
		}
		details, errs := devices.Inspect(ctx, names) // likewise
		if len(details) < len(names) && len(errs) == 0 {
			// Gone, or a kernel's device to a client from before that had WireGuard.
			_ = devices.Close() // it is asked nothing any more
			devices = nil
		}
		return details
	}
	polls.Programs = func(path string) (watch.Programs, bool) {
		if programs == nil {
			mount, err := cgroup.Find()
			if err != nil {
				return watch.Programs{}, false
			}
			if programs, err = socketkernel.Open(mount.Point); err != nil {
				return watch.Programs{}, false
			}
		}
		return programs.IDs(path)
	}
	return polls, func() {
		if devices != nil {
			_ = devices.Close() // its sockets end with the process in any case
		}
		if programs != nil {
			programs.Close()
		}
	}
}

// beside is what runs beside the loop, each time with a session of its own.
type beside struct{ *program }

func (b beside) Pending(d decide.Decision) (news []decide.News, due []string) {
	return tell.Pending(b.dir(), d)
}

func (b beside) Tell(ctx context.Context, d decide.Decision) []error {
	return b.with(func(s *session) []error { return s.teller.Tell(ctx, d, 0) })
}

func (b beside) Refresh(ctx context.Context, r watch.Refresh) []error {
	return b.with(func(s *session) []error {
		if r.Devices == nil {
			return s.refresher.Named(ctx, nil, 0).Errs
		}
		return s.refresher.Silent(ctx, r.Devices, wg.StaleAfter, r.Names)
	})
}

func (b beside) with(work func(*session) []error) []error {
	s, err := b.beginHook(false)
	if err != nil {
		return []error{fmt.Errorf("tell what is new: %w", err)}
	}
	defer s.Close()
	s.teller.Outside = true
	return work(s)
}
