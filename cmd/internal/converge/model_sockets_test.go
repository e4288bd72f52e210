package converge

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"pgregory.net/rapid"

	"wg-multihome/cmd/internal/decide"
	"wg-multihome/fwmark"
	"wg-multihome/fwmark/config"
	"wg-multihome/fwmark/socket"
	"wg-multihome/policy"
	"wg-multihome/policy/sim"
)

// aSocket is a socket of a service, or of a command of `run`. Those that nothing
// tells apart are one.
type aSocket struct {
	service string
	mark    uint32
	use     socket.Use

	// Of one that is connected: the source that it has, and the uplink that it has
	// begun by.
	source netip.Addr
	uplink string
}

func (s aSocket) String() string {
	if s.use == socket.Connected {
		return fmt.Sprintf("a socket of %s that was connected by %s", s.service, s.uplink)
	}
	return "a socket of " + s.service
}

func (s aSocket) compare(o aSocket) int {
	return cmp.Or(cmp.Compare(s.service, o.service), cmp.Compare(s.mark, o.mark), cmp.Compare(s.use, o.use), s.source.Compare(o.source), cmp.Compare(s.uplink, o.uplink))
}

// unreadPrograms is the name, in faults, of programs on cgroups.
const unreadPrograms = "programs"

// readSockets shows programs as host does.
func (h *simulated) readSockets(o *decide.Observation) {
	o.Sockets = decide.Sockets{Noted: h.noted.Clone()}
	o.Failed(decide.Programs)
	if !slices.ContainsFunc(o.Configs(), config.Config.MarksSockets) && len(h.noted.Cgroups) == 0 {
		return
	}
	if h.faults.unread[unreadPrograms] {
		o.Sockets.Unread = true
		o.Failed(decide.Programs, errSim)
		return
	}
	listed := map[string]bool{}
	for _, path := range h.noted.Cgroups {
		listed[path] = true
	}
	for _, config := range o.Configs() {
		for _, in := range config.Intents {
			if !in.Mark.IsZero() && config.MarkingOf(in) != fwmark.ByPacket {
				for _, path := range in.Cgroups {
					listed[path] = true
				}
			}
		}
	}
	for _, run := range o.Cgroups.Runs {
		listed[o.Cgroups.Names[run.Cgroup.ID]] = true
	}
	o.Sockets.Asked = true
	o.Sockets.Have.Cgroups = map[string]socket.Cgroup{"": {}}
	for path := range h.cgroups {
		if c := h.programs[path]; listed[path] || h.whole && len(c.Marks()) > 0 {
			o.Sockets.Have.Cgroups[path] = c
		}
	}
	o.Sockets.Elements = map[uint64]string{}
	for _, id := range h.have.PublicElements() {
		for path, of := range h.cgroups {
			if of == id {
				o.Sockets.Elements[id] = path
			}
		}
	}
}

// applySocket makes the changes of a step, one by one: the run may be killed
// between any two.
func (h *simulated) applySocket(s decide.SocketStep) error {
	h.noted = s.Note(h.noted)
	if _, there := h.cgroups[s.Cgroup]; !there && !s.Mark.IsZero() {
		return errSim
	}
	for i, change := range s.Step.Changes {
		if i > 0 {
			if err := h.begin(fmt.Sprintf("%s of %s", change, s.Cgroup)); err != nil {
				return err
			}
		}
		switch {
		case change.Kind == socket.Give:
			h.give(change.Remark)
		case change.Kind == socket.Attach && len(h.programs[s.Cgroup].Places[change.Place].Programs) > 0 && !h.programs[s.Cgroup].Places[change.Place].Multi:
			return fmt.Errorf("%s: %w", change, errSim)
		default:
			h.programs[s.Cgroup] = h.programs[s.Cgroup].After(change)
		}
		h.after(fmt.Sprintf("%s: %s", s.Cgroup, change))
	}
	h.noted = s.Done(h.noted)
	return nil
}

// moveSockets gives every socket another number.
func (h *simulated) moveSockets(s decide.SocketMove) {
	h.noted = s.Note(h.noted)
	h.give(s.Remark())
	h.noted = h.noted.DropMark(s.From)
}

func (h *simulated) give(r socket.Remark) {
	within := func(path, other string) bool {
		return path == other || other == "" || strings.HasPrefix(path, other+"/")
	}
	next := map[aSocket]bool{}
	for s := range h.sockets {
		excepted := slices.ContainsFunc(r.Except, func(path string) bool { return within(s.service, path) })
		if within(s.service, r.Cgroup) && !excepted {
			s.mark = r.Next(s.mark, s.use)
		}
		next[s] = true
	}
	h.sockets = next
}

// marked returns what a program at a place makes of a socket's mark.
func (h *simulated) marked(service string, place socket.Place, mark uint32) uint32 {
	for _, a := range h.programs[service].Places[place].Programs {
		m, ours := a.Mark()
		switch {
		case !ours:
		case place == socket.Listen && m.Selects(mark):
			mark &^= m.Mask
		case place != socket.Listen && mark&m.Mask == 0:
			mark |= m.Value
		}
	}
	return mark
}

// made is the mark of a socket that a service makes now.
func (h *simulated) made(service string) uint32 { return h.marked(service, socket.Create, 0) }

// makeSockets has each service make sockets, and connect those that it has.
func (h *simulated) makeSockets() {
	for s := range h.sockets {
		if _, lives := h.cgroups[s.service]; !lives {
			delete(h.sockets, s)
		}
	}
	for name := range h.cgroups {
		h.sockets[aSocket{service: name, mark: h.made(name)}] = true
	}
	for s := range maps.Clone(h.sockets) {
		if s.use != socket.Unconnected {
			continue
		}
		for _, source := range h.sources() {
			for _, f := range fwmark.Families {
				if !source.IsValid() || fwmark.FamilyOf(source) == f {
					h.connectSocket(s, source, f)
				}
			}
		}
	}
}

// connectSocket connects a socket, where a route leads there: its source is that of
// the device, and stays. What the lock drops has begun nothing.
func (h *simulated) connectSocket(s aSocket, source netip.Addr, f fwmark.Family) {
	s.use, s.mark = socket.Connected, h.marked(s.service, [...]socket.Place{socket.Connect4, socket.Connect6}[f], s.mark)
	route, errno := h.kernel.Walk(policy.Packet{Mark: s.mark, Src: source, Dst: world[f]})
	if errno != sim.Done || route.Dst.Bits() != 0 || s.mark == 0 {
		return
	}
	s.source, s.uplink = source, route.Device
	if !source.IsValid() {
		i := slices.IndexFunc(h.kernel.Addrs, func(a policy.Address) bool {
			return a.Device == route.Device && fwmark.FamilyOf(a.Prefix.Addr()) == f
		})
		if i < 0 {
			return
		}
		s.source = h.kernel.Addrs[i].Prefix.Addr()
	}
	p := h.first(s.service)
	p.Mark, p.Src, p.Dst = s.mark, s.source, world[f]
	sent := h.rules.Send("output", p)
	if !sent.Dropped && h.passes(sent.Packet, s.uplink) {
		h.sockets[s] = true
	}
}

// socketSamples are what sockets send that there are already.
func (h *history) socketSamples() []sample {
	var list []sample
	everywhere := h.host.sources()
	for _, s := range slices.SortedFunc(maps.Keys(h.host.sockets), aSocket.compare) {
		if _, lives := h.host.cgroups[s.service]; !lives {
			continue
		}
		o := h.ownersOf(thing{kind: aService, name: s.service})
		p := h.host.first(s.service)
		p.Mark = s.mark
		one := sample{what: s.String(), packet: p, sources: everywhere, owners: o}
		if s.use == socket.Connected {
			// One whose mark was taken off, or is its uplink's no more, goes by its source.
			one.sources, one.owners, one.unpinned = []netip.Addr{s.source}, owners{uplinks: []string{s.uplink}}, o.nobodys || s.mark == 0 || h.marksNone(s.uplink)
			one.packet.Confirmed = true
		}
		list = append(list, one)
	}
	return list
}

// marksNone reports whether an uplink has no mark in some configuration that counts.
func (h *history) marksNone(uplink string) bool {
	return slices.ContainsFunc(h.epochs, func(e epoch) bool {
		return e.taking && !slices.ContainsFunc(e.pins, func(p fwmark.Pin) bool { return p.Uplink == uplink })
	})
}

// judgeServers checks that no socket that begins to listen keeps a mark that a
// program gave it: what it accepts is to be answered by the uplink that it came by.
func (h *history) judgeServers(when string) {
	for s := range h.host.sockets {
		o := h.ownersOf(thing{kind: aService, name: s.service})
		left := h.host.marked(s.service, socket.Listen, s.mark)
		if s.use == socket.Unconnected && !o.nobodys && left != 0 && left == h.host.made(s.service) {
			h.fatalf("%s: a server of %s keeps mark %#x", when, s.service, left)
		}
	}
}

// judgeSources checks that nothing leaves by the uplink of a mark that sockets have
// with an address of another one.
func (h *history) judgeSources(uplinks []fwmark.Uplink) {
	if h.host.lacks {
		return
	}
	for s := range h.host.sockets {
		o := h.ownersOf(thing{kind: aService, name: s.service})
		if s.mark == 0 || o.nobodys || len(o.uplinks) != 1 || s.use != socket.Unconnected || !h.host.bySocket(s.service) {
			continue
		}
		for _, a := range h.host.kernel.Addrs {
			address := a.Prefix.Addr()
			p := h.host.first(s.service)
			p.Mark, p.Src, p.Dst = s.mark, address, world[fwmark.FamilyOf(address)]
			another := slices.ContainsFunc(uplinks, func(u fwmark.Uplink) bool { return u.Name == a.Device && slices.Contains(u.Addrs, address) })
			if another && a.Device != o.uplinks[0] && h.host.route(p, p.Mark) == o.uplinks[0] && h.host.passes(p, o.uplinks[0]) {
				h.fatalf("%s leaves by %s with %s, which is %s's", s, o.uplinks[0], address, a.Device)
			}
		}
	}
}

// bySocket reports whether a service has programs, whole.
func (h *simulated) bySocket(service string) bool {
	marks := h.programs[service].Marks()
	return len(marks) == 1 && h.programs[service].Complete(marks[0])
}

// dropSockets ends the sockets of a service that is no more, and its programs.
func (h *simulated) dropSockets(service string) {
	delete(h.programs, service)
	for s := range h.sockets {
		if s.service == service {
			delete(h.sockets, s)
		}
	}
}

// detach has others take programs of ours away.
func (h *history) detach(t *rapid.T) {
	name := anyOf(t, services)
	c, there := h.host.programs[name]
	if _, lives := h.host.cgroups[name]; !there || !lives {
		return
	}
	for _, place := range socket.Places {
		if draw(t, 0, 1) == 1 {
			c = c.After(socket.Change{Kind: socket.Only, Place: place})
		}
	}
	h.host.programs[name] = c
	h.fresh[thing{kind: aService, name: name}] = true
}

// toggleExclusive has others attach a program that allows none beside it, or take
// it away. It can come only where none is.
func (h *history) toggleExclusive(t *rapid.T) {
	name := anyOf(t, services)
	c := h.host.programs[name]
	at := &c.Places[socket.Create]
	if _, lives := h.host.cgroups[name]; !lives || len(at.Ours()) > 0 {
		return
	}
	if len(at.Programs) > 0 {
		at.Programs = nil
	} else {
		at.Programs, at.Multi = []socket.Attached{{ID: 1, Name: "other"}}, false
	}
	h.host.programs[name] = c
}

// setMarking changes how services are marked.
func (c configuration) setMarking(t *rapid.T) {
	name := anyOf(t, wans)
	c.set(name, func(o *options) { o.marking = anyOf(t, []fwmark.Marking{fwmark.ByPacket, fwmark.BySocket}) })
}

// byWay returns the configuration with all services marked in one way.
func (c configuration) byWay(way fwmark.Marking) configuration {
	c = c.clone()
	c.marking = way
	return c
}
