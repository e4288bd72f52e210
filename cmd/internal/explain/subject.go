package explain

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"wg-multihome/cmd/internal/decide"
	"wg-multihome/fwmark"
	"wg-multihome/fwmark/spelling"
	"wg-multihome/nft"
	"wg-multihome/policy"
	"wg-multihome/wg"
)

// Subject is whose packet is explained.
type Subject struct {
	What     string       // "mark 0x2005 (uplink wan2)"
	Probe    policy.Probe // without a destination, but for what Endpoints has
	Uplink   string       // that it belongs to; "": none
	Notes    []string     // how a service is pinned, or why it is not
	Mend     string       // where it is to be pinned, and is not
	Endpoint []netip.AddrPort

	cgroups map[int]uint64 // by level, of a socket whose packets may be marked
}

// pinOf returns the pin whose packets have a mark of this value: of several the one
// under more bits.
func pinOf(d decide.Decision, value uint32) (p fwmark.Pin, is bool) {
	for _, o := range d.Pins {
		if o.Mark.Selects(value) && (!is || o.Mark.Within(p.Mark)) {
			p, is = o, true
		}
	}
	return p, is
}

// OfMark is a packet with a mark; 0: one without.
func OfMark(d decide.Decision, value uint32) Subject {
	s := Subject{What: "no mark", Probe: policy.Probe{Packet: policy.Packet{Mark: value}}}
	if value == 0 {
		return s
	}
	p, is := pinOf(d, value)
	s.Uplink = p.Uplink
	switch s.What = fmt.Sprintf("mark %#x", value); {
	case !is:
		s.What += " (none of ours)"
	case p.Uplink == "":
		s.What += " (held, of no uplink)"
	case p.Full:
		s.What += fmt.Sprintf(" (that full tunnel %s keeps, uplink %s)", strings.Join(p.Devices, ", "), p.Uplink)
	default:
		s.What += fmt.Sprintf(" (uplink %s)", p.Uplink)
	}
	return s
}

// OfSource is a packet without a mark from an address of this host.
func OfSource(d decide.Decision, addr netip.Addr) (Subject, error) {
	s := Subject{What: "source " + addr.String(), Probe: policy.Probe{Packet: policy.Packet{Src: addr}}}
	i := slices.IndexFunc(d.Facts.Addrs, func(a policy.Address) bool { return a.Prefix.Addr() == addr })
	if i < 0 {
		return s, fmt.Errorf("--from %s: no interface of this host has that address; `ip -br address` lists those that there are", addr)
	}
	for _, u := range d.Uplinks {
		if slices.Contains(u.Addrs, addr) {
			s.Uplink = u.Name
			s.What += fmt.Sprintf(" (uplink %s)", u.Name)
		}
	}
	for _, served := range d.Rules.Served {
		if served.Addr == addr {
			s.Notes = append(s.Notes, served.String())
		}
	}
	return s, nil
}

// OfDevice is the own UDP of a WireGuard device, or else a packet of a socket that
// is bound to a device.
func OfDevice(d decide.Decision, details []wg.Detail, name string) (Subject, error) {
	if !slices.ContainsFunc(d.Facts.Links, func(l policy.Link) bool { return l.Name == name }) {
		return Subject{}, fmt.Errorf("--device %s: there is no such interface; `ip -br link` lists those that there are", name)
	}
	i := slices.IndexFunc(details, func(o wg.Detail) bool { return o.Name == name })
	if i < 0 {
		return Subject{What: "a socket that is bound to " + name, Probe: policy.Probe{Device: name}}, nil
	}
	s := OfMark(d, details[i].Mark)
	s.What = fmt.Sprintf("WireGuard device %s, %s", name, s.What)
	s.Probe.Protocol = protocols["udp"]
	for _, p := range d.Pins {
		if slices.Contains(p.Devices, name) && s.Uplink != p.Uplink {
			s.Uplink, s.Mend = p.Uplink, "wg-multihome sync"
			s.Notes = append(s.Notes, fmt.Sprintf("%s is pinned to uplink %s, and has not its mark %s", name, p.Uplink, p.Mark))
		}
	}
	for _, peer := range details[i].Peers {
		if peer.Endpoint.IsValid() {
			s.Endpoint = append(s.Endpoint, peer.Endpoint)
		}
	}
	return s, nil
}

// protocols are IPPROTO_* by the words of --proto.
var protocols = map[string]uint8{"tcp": 6, "udp": 17, "icmp": 1}

// Protocol returns the number of tcp, udp or icmp.
func Protocol(word string) uint8 { return protocols[word] }

// icmp6 is IPPROTO_ICMPV6.
const icmp6 = 58

// Cgroup is where a process lives, or where a service's would: the cgroup and those
// above it that are there, the outermost first.
type Cgroup struct {
	What string // "service a.service", "process 7 (curl)"
	Path string
	Ids  []nft.Cgroup
}

// OfCgroup is a packet of a new socket that is made in a cgroup.
func OfCgroup(d decide.Decision, c Cgroup) Subject {
	names := strings.Split(c.Path, "/")
	for depth := len(names); depth > 0; depth-- {
		path := strings.Join(names[:depth], "/")
		for _, p := range d.Pins {
			if how := pinnedBy(d, c, p, path, depth == len(names)); how != "" {
				return pinned(d, c, p, path, how)
			}
		}
	}
	s := OfMark(d, 0)
	s.What = fmt.Sprintf("no mark (%s)", c.What)
	s.Notes = []string{"by none of the four ways: not listed" + listedNear(d, c) + ", in no listed slice, not started by `run`, in no set by NFTSet="}
	s.Mend = "list it under an uplink's cgroups (`wg-multihome help services`), or start it by `wg-multihome run`"
	return s
}

// listedNear asks whether one of the listed was meant, where there is no such cgroup now.
func listedNear(d decide.Decision, c Cgroup) string {
	if slices.ContainsFunc(c.Ids, func(id nft.Cgroup) bool { return id.Level == strings.Count(c.Path, "/")+1 }) {
		return ""
	}
	last := func(path string) string { return path[strings.LastIndex(path, "/")+1:] }
	var listed []string
	for _, p := range d.Pins {
		for _, path := range p.Cgroups {
			listed = append(listed, last(path))
		}
	}
	return spelling.DidYouMean(last(c.Path), listed)
}

// pinnedBy says by which of the four ways a path is a pin's; "": by none.
func pinnedBy(d decide.Decision, c Cgroup, p fwmark.Pin, path string, itself bool) string {
	if slices.Contains(p.Cgroups, path) {
		if itself {
			return "listed itself"
		}
		return "inside " + path + ", which is listed"
	}
	for _, run := range d.Cgroups.Runs {
		if d.Cgroups.Names[run.Cgroup.ID] == path && !p.Full && run.Uplink == p.Uplink {
			return "started by `run`"
		}
	}
	for _, id := range c.Ids {
		if id.Level == strings.Count(path, "/")+1 && slices.Contains(d.Table.Have.Sets[nft.MarkSet(p.Mark)].Cgroups, id.ID) {
			return "put into set " + nft.MarkSet(p.Mark) + ", as by NFTSet="
		}
	}
	return ""
}

// pinned is a subject of a cgroup that is a pin's by a path.
func pinned(d decide.Decision, c Cgroup, p fwmark.Pin, path, how string) Subject {
	s := Subject{What: fmt.Sprintf("no mark of its own (%s, uplink %s)", c.What, p.Uplink), Uplink: p.Uplink, cgroups: map[int]uint64{}}
	for _, id := range c.Ids {
		s.cgroups[id.Level] = id.ID
	}
	if service, decided := d.Service(path); decided && d.Sockets.Asked && service.Packet == nil {
		if stands, there := d.Sockets.Have.Cgroups[path]; there && stands.Complete(service.Mark) {
			s.Probe.Mark, s.cgroups = p.Mark.Value, nil
			s.What = fmt.Sprintf("mark %s (%s, uplink %s)", p.Mark, c.What, p.Uplink)
			s.Notes = append(s.Notes, how+": new sockets get the mark from programs on "+path)
			return s
		}
		s.Notes = append(s.Notes, how+", but no programs of ours mark its sockets now")
		s.Mend = "wg-multihome sync"
		return s
	}
	// Its first packet is marked by the table, if its cgroup is in a set there.
	at := slices.IndexFunc(c.Ids, func(id nft.Cgroup) bool { return id.Level == strings.Count(path, "/")+1 })
	sets := d.Table.Have.Sets
	switch {
	case at < 0:
		s.Notes = append(s.Notes, how+", but there is no such cgroup now: it is pinned by ExecStartPre=, watch, or the next sync")
	case slices.Contains(sets[nft.PathsSet(p.Mark)].Cgroups, c.Ids[at].ID) || slices.Contains(sets[nft.MarkSet(p.Mark)].Cgroups, c.Ids[at].ID):
		s.Notes = append(s.Notes, fmt.Sprintf("%s: cgroup %d is in its set, and packets of new connections get mark %s", how, c.Ids[at].ID, p.Mark))
	default:
		s.Notes = append(s.Notes, fmt.Sprintf("%s, but cgroup %d is not in set %s now", how, c.Ids[at].ID, nft.PathsSet(p.Mark)))
		s.Mend = "wg-multihome sync"
	}
	return s
}
