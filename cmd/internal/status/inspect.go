package status

import (
	"context"
	"fmt"
	"net/netip"
	"slices"

	"wg-multihome/cmd/internal/decide"
	"wg-multihome/fwmark"
	"wg-multihome/fwmark/spelling"
	"wg-multihome/policy"
	"wg-multihome/wg"
)

// Host is the machine: *host.Host.
type Host interface {
	Inspect(ctx context.Context, devices []string) ([]wg.Detail, []error)
	ReadFile(o decide.Observation, device string) (wg.File, error)
	Ask([]policy.Question) ([]policy.Answer, error)
	IntoTunnels(o decide.Observation, addrs []netip.Addr, mark uint32) map[netip.Addr]string
}

// Inspection is what is shown beyond what a run needs: of the way of packets, and
// of WireGuard devices.
type Inspection struct {
	questions []policy.Question
	answers   []policy.Answer

	details []wg.Detail // of those that are there
	notes   []string    // what is amiss, each naming its device
	errs    []error
}

// Inspect asks the kernel for the ways of packets, and reads the devices' peers and
// files.
func Inspect(ctx context.Context, h Host, d decide.Decision) Inspection {
	in := Inspection{notes: absent(d), questions: d.Questions(0)}
	var err error
	if in.answers, err = h.Ask(in.questions); err != nil {
		in.errs = append(in.errs, err)
	}
	var names []string
	for _, device := range d.Devices.Found {
		names = append(names, device.Name)
	}
	if len(names) == 0 {
		return in
	}
	details, errs := h.Inspect(ctx, names)
	in.details, in.errs = details, append(in.errs, errs...)
	files, unread := map[string]wg.File{}, map[string]error{}
	for _, name := range d.Present(d.PinnedDevices()) {
		files[name], unread[name] = h.ReadFile(d.Observation, name)
	}
	in.notes = append(in.notes, d.Contradictions(files)...)
	for _, device := range in.details {
		for _, p := range d.Pins {
			if slices.Contains(p.Devices, device.Name) {
				if err := unread[device.Name]; err != nil {
					in.notes = append(in.notes, err.Error())
				}
				in.notes = append(in.notes, amiss(d, device, p, files[device.Name])...)
			}
		}
		in.notes = append(in.notes, nested(h, d, device)...)
	}
	return in
}

// absent names pinned devices that are not there.
func absent(d decide.Decision) []string {
	var notes []string
	for _, name := range d.PinnedDevices() {
		if len(d.Reachable([]string{name})) == 0 {
			notes = append(notes, fmt.Sprintf("%s: is not there (one in another network namespace is not seen from here)", name))
		}
	}
	return notes
}

// misspelt names uplinks of the configuration that are not there, where an interface has
// nearly the same name.
func misspelt(d decide.Decision) []string {
	var others, notes []string
	for _, l := range d.Facts.Links {
		if !slices.ContainsFunc(d.Config.Intents, func(in fwmark.Intent) bool { return in.Uplink == l.Name }) {
			others = append(others, l.Name)
		}
	}
	for _, u := range d.Uplinks {
		if instead := spelling.Instead(u.Name, others); !u.Present && instead != "" {
			notes = append(notes, fmt.Sprintf("uplink %q is not there%s", u.Name, instead))
		}
	}
	return notes
}

// amiss says what is amiss with a pinned device's file and its endpoints.
func amiss(d decide.Decision, device wg.Detail, p fwmark.Pin, f wg.File) []string {
	var notes []string
	if f.Save {
		notes = append(notes, fmt.Sprintf("%s: SaveConfig = true: wg-quick writes addresses over the names of endpoints in %s", device.Name, f.Path))
	}
	families := d.Families(p.Uplink)
	if d.Refused(p) != "" {
		return notes
	}
	for _, peer := range device.Peers {
		if !peer.Endpoint.IsValid() {
			continue
		}
		if family := fwmark.FamilyOf(peer.Endpoint.Addr()); !families[family] {
			notes = append(notes, fmt.Sprintf("%s: endpoint %s of peer %s is of IPv%s, which uplink %q lacks", device.Name, peer.Endpoint, peer.Key, family, p.Uplink))
		}
	}
	return notes
}

// nested names endpoints that lie inside a tunnel.
func nested(h Host, d decide.Decision, device wg.Detail) []string {
	var addrs []netip.Addr
	for _, peer := range device.Peers {
		if peer.Endpoint.IsValid() {
			addrs = append(addrs, peer.Endpoint.Addr())
		}
	}
	into := h.IntoTunnels(d.Observation, addrs, device.Mark)
	var notes []string
	for _, peer := range device.Peers {
		if by := into[peer.Endpoint.Addr()]; by != "" {
			notes = append(notes, fmt.Sprintf("%s: endpoint %s of peer %s lies inside tunnel %q", device.Name, peer.Endpoint, peer.Key, by))
		}
	}
	return notes
}

// ways reports, by family, whether the kernel sends packets to the world with a pin's
// mark by its uplink, or by another device.
func (in Inspection) ways(p fwmark.Pin) (routed, astray [2]bool) {
	for i, q := range in.questions {
		if i < len(in.answers) && q.World && q.Mark == p.Mark.Value {
			a, f := in.answers[i], fwmark.FamilyOf(q.Dst)
			routed[f] = a.Errno == 0 && a.Device == p.Uplink
			astray[f] = a.Errno == 0 && a.Device != p.Uplink
		}
	}
	return routed, astray
}
