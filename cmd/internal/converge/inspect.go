package converge

import (
	"context"
	"fmt"
	"net/netip"

	"wg-multihome/fwmark"
	"wg-multihome/wg"
)

// Inspection is what `status` says of WireGuard devices beyond what a run
// needs.
type Inspection struct {
	Details []wg.Detail // of those that are there
	Notes   []string    // what is amiss, each naming its device
}

// LookClosely is Look, with the devices' peers.
func (h *Host) LookClosely(ctx context.Context) (View, Inspection, error) {
	v, err := h.Look(ctx)
	if err != nil || len(v.Devices) == 0 {
		return v, Inspection{Notes: v.absent()}, err
	}
	var names []string
	for _, d := range v.Devices {
		names = append(names, d.Name)
	}
	in := Inspection{Notes: append(v.absent(), v.contradictions()...)}
	var errs []error
	in.Details, errs = h.wg.Inspect(ctx, names) // Look has opened it
	v.Errs = append(v.Errs, errs...)
	for _, d := range in.Details {
		for _, p := range v.Pins {
			for _, listed := range p.Devices {
				if listed == d.Name {
					in.Notes = append(in.Notes, v.notes(d, p)...)
				}
			}
		}
		in.Notes = append(in.Notes, h.insideNotes(v, d)...)
	}
	return v, in, nil
}

// absent names pinned devices that are not there.
func (v View) absent() []string {
	var notes []string
	for _, name := range v.pinnedDevices() {
		if len(v.perhaps([]string{name})) == 0 {
			notes = append(notes, fmt.Sprintf("%s: is not there (one in another network namespace is not seen from here)", name))
		}
	}
	return notes
}

// notes says what is amiss with a pinned device's file and its endpoints.
func (v View) notes(d wg.Detail, p fwmark.Pin) []string {
	var notes []string
	f, err := v.file(d.Name)
	if err != nil {
		notes = append(notes, err.Error())
	}
	if f.Save {
		notes = append(notes, fmt.Sprintf("%s: SaveConfig = true: wg-quick writes addresses over the names of endpoints in %s", d.Name, f.Path))
	}
	ways := v.ways(p.Uplink)
	for _, peer := range d.Peers {
		if !peer.Endpoint.IsValid() {
			continue
		}
		if family := fwmark.FamilyOf(peer.Endpoint.Addr()); !ways[family] {
			notes = append(notes, fmt.Sprintf("%s: endpoint %s of peer %s is of IPv%s, which uplink %q lacks", d.Name, peer.Endpoint, peer.Key, family, p.Uplink))
		}
	}
	return notes
}

// insideNotes names endpoints that lie inside a tunnel.
func (h *Host) insideNotes(v View, d wg.Detail) []string {
	var addrs []netip.Addr
	for _, peer := range d.Peers {
		if peer.Endpoint.IsValid() {
			addrs = append(addrs, peer.Endpoint.Addr())
		}
	}
	inside := h.inside(v, addrs, d.Mark)
	var notes []string
	for _, peer := range d.Peers {
		if by := inside[peer.Endpoint.Addr()]; by != "" {
			notes = append(notes, fmt.Sprintf("%s: endpoint %s of peer %s lies inside tunnel %q", d.Name, peer.Endpoint, peer.Key, by))
		}
	}
	return notes
}
