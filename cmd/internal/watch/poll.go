package watch

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"wg-multihome/cmd/internal/decide"
	"wg-multihome/cmd/internal/events"
	"wg-multihome/fwmark/socket"
	"wg-multihome/wg"
)

// pollEvery is how often what tells of no change is looked at.
const pollEvery = time.Second

// Programs are the ids of the programs at each place of a cgroup.
type Programs [len(socket.Places)][]uint32

// Polls looks at the marks of pinned devices, and at the programs of services that
// are marked by socket: setting the one and detaching the other makes no event.
// Where there is neither it sleeps.
type Polls struct {
	Devices  func(ctx context.Context, names []string) []wg.Detail
	Programs func(cgroup string) (p Programs, there bool)
	Seen     func([]wg.Detail) // for metrics; nil: nobody wants it

	found chan events.Heard
	due   chan Refresh
	wake  chan struct{}

	mu       sync.Mutex
	marks    map[string]uint32
	programs map[string]Programs
}

// NewPolls makes them; Run runs them.
func NewPolls() *Polls {
	return &Polls{found: make(chan events.Heard), due: make(chan Refresh), wake: make(chan struct{}, 1)}
}

// Found tells what is not as the last look has seen it.
func (p *Polls) Found() <-chan events.Heard { return p.found }

// Due tells which tunnels are silent.
func (p *Polls) Due() <-chan Refresh { return p.due }

// Follow takes what the last look has seen.
func (p *Polls) Follow(d decide.Decision) {
	marks, programs := map[string]uint32{}, map[string]Programs{}
	pinned := d.PinnedDevices()
	for _, device := range d.Devices.Found {
		if slices.Contains(pinned, device.Name) {
			marks[device.Name] = device.Mark
		}
	}
	if d.Sockets.Asked && d.Sockets.Have.Refused == nil {
		for path, c := range d.Sockets.Have.Cgroups {
			if len(c.Marks()) > 0 {
				programs[path] = programsOf(c)
			}
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	idle := len(p.marks)+len(p.programs) == 0
	p.marks, p.programs = marks, programs
	if idle && len(marks)+len(programs) > 0 {
		select {
		case p.wake <- struct{}{}:
		default:
		}
	}
}

func programsOf(c socket.Cgroup) (p Programs) {
	for place, s := range c.Places {
		for _, a := range s.Programs {
			p[place] = append(p[place], a.ID)
		}
	}
	return p
}

// Run looks until ctx ends.
func (p *Polls) Run(ctx context.Context) {
	var handshakes Handshakes
	timer := time.NewTimer(pollEvery)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-p.wake:
		case <-timer.C:
		}
		if !p.once(ctx, &handshakes) {
			timer.Stop()
			continue
		}
		timer.Reset(pollEvery)
	}
}

// once looks once, and reports whether there is anything to look at.
func (p *Polls) once(ctx context.Context, h *Handshakes) bool {
	p.mu.Lock()
	names, cgroups := slices.Sorted(maps.Keys(p.marks)), slices.Sorted(maps.Keys(p.programs))
	p.mu.Unlock()
	if len(names)+len(cgroups) == 0 {
		return false
	}
	var found events.Heard
	var devices []wg.Detail
	if len(names) > 0 {
		devices = p.Devices(ctx, names)
	}
	if p.Seen != nil {
		p.Seen(devices)
	}
	for _, d := range devices {
		if p.differs(d) {
			found.Stale |= decide.WireGuard | decide.Routing
		}
	}
	for _, path := range cgroups {
		if now, there := p.Programs(path); there && p.detached(path, now) {
			found.Stale |= decide.Services | decide.Programs
		}
	}
	if found.Any() {
		select {
		case p.found <- found:
		case <-ctx.Done():
		}
	}
	for _, r := range h.Due(time.Now(), devices) {
		select {
		case p.due <- r:
		case <-ctx.Done():
		}
	}
	return true
}

func (p *Polls) differs(d wg.Detail) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	mark, known := p.marks[d.Name]
	return known && mark != d.Mark
}

func (p *Polls) detached(path string, now Programs) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	before, known := p.programs[path]
	return known && !slices.EqualFunc(before[:], now[:], slices.Equal[[]uint32])
}
