package main

import (
	"context"
	"net"
	"runtime/debug"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"wg-multihome/cmd/internal/metrics"
	"wg-multihome/cmd/internal/watch"
	"wg-multihome/wg"
)

// meter counts what watch does, and serves it where there is a listener.
func (p *program) meter(ctx context.Context, listener net.Listener, wait *sync.WaitGroup) (watch.Meter, error) {
	if listener == nil {
		return watch.NoMeter{}, nil
	}
	r := prometheus.NewRegistry()
	w, err := metrics.NewWatch(r)
	if err != nil {
		return nil, err
	}
	look := func() (metrics.Snapshot, error) {
		s, err := p.beginHook(false)
		if err != nil {
			return metrics.Snapshot{}, err
		}
		defer s.Close()
		return s.snapshot(ctx)
	}
	if err := r.Register(metrics.Host{Build: build(), Look: look}); err != nil {
		return nil, err
	}
	wait.Add(1)
	go func() {
		defer wait.Done()
		metrics.Serve(ctx, listener, r)
	}()
	return w, nil
}

// build is what the program is, in labels.
func build() metrics.Build {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return metrics.Build{Version: version()}
	}
	return metrics.Build{Version: versionOf(released, info), GoVersion: info.GoVersion}
}

// snapshot looks at the host, for metrics.
func (s *session) snapshot(ctx context.Context) (metrics.Snapshot, error) {
	d, err := s.Look(ctx)
	if err != nil {
		return metrics.Snapshot{}, err
	}
	var names []string
	for _, device := range d.Devices.Found {
		names = append(names, device.Name)
	}
	var details []wg.Detail
	if len(names) > 0 {
		details, _ = s.host.Inspect(ctx, names) // a device that is silent has no peers
	}
	// The kernel goes through all rules for each answer; status asks of all.
	const addresses = 32
	questions := d.Questions(addresses)
	answers, err := s.host.Ask(questions)
	if err != nil {
		return metrics.Snapshot{}, err
	}
	return metrics.Snapshot{Decision: d, Details: details, Astray: len(d.Astray(questions, answers)) > 0}, nil
}
