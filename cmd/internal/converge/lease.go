package converge

import (
	"maps"

	"wg-multihome/cmd/internal/state"
)

// leases are what a DHCP client has said of interfaces; nil: the lease has
// ended.
type leases map[string]*state.Record

// Bound records a lease. Where it is a renewal, the time of the last BOUND or
// REBOOT stays. Where an error says that it could not be written, the lease
// counts in this run all the same.
func (r *Run) Bound(iface string, record state.Record, fresh bool) error {
	if fresh {
		record.Bound = record.When
	} else if records, _ := r.State.ReadLeases(); records[iface].Address.IsValid() {
		record.Bound = records[iface].Bound
	}
	return r.said(iface, &record, r.State.WriteLease(iface, record))
}

// Dropped ends an interface's lease, likewise.
func (r *Run) Dropped(iface string) error { return r.said(iface, nil, r.State.DropLease(iface)) }

// said keeps what could not be written.
func (r *Run) said(iface string, record *state.Record, err error) error {
	if err != nil {
		if r.lost == nil {
			r.lost = leases{}
		}
		r.lost[iface] = record
	}
	return err
}

// over returns the records, and in place of those that could not be written
// what was said.
func (l leases) over(records map[string]state.Record) map[string]state.Record {
	if len(l) == 0 {
		return records
	}
	records = maps.Clone(records)
	if records == nil {
		records = map[string]state.Record{}
	}
	for iface, r := range l {
		if r == nil {
			delete(records, iface)
		} else {
			records[iface] = *r
		}
	}
	return records
}
