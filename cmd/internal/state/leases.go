package state

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"time"
)

// Record is a lease as the DHCP client told it.
type Record struct {
	Address netip.Prefix `json:"address"`
	Gateway netip.Addr   `json:"gateway"` // invalid, "" in the file: none; unspecified: the link has none
	When    time.Time    `json:"when"`    // the event that brought this record
	Bound   time.Time    `json:"bound"`   // the last BOUND or REBOOT; zero: none was seen
}

func (r Record) check() error {
	switch {
	case !r.Address.IsValid():
		return errors.New("the record has no address")
	case !sameFamily(r.Gateway, r.Address.Addr()):
		return fmt.Errorf("gateway %s and address %s are of two families", r.Gateway, r.Address)
	}
	return nil
}

// sameFamily reports whether two addresses can belong together; an invalid one
// goes with any.
func sameFamily(a, b netip.Addr) bool {
	return !a.IsValid() || !b.IsValid() || a.BitLen() == b.BitLen()
}

// ReadLeases returns the records by interface. Without a STATE-DIR there are
// none. A record that cannot be read is an error that names its file, and its
// interface is there with a zero Record: it stays an uplink. Other files, and
// what a killed writer left, are no records and no errors.
func (d Dir) ReadLeases() (map[string]Record, []error) {
	dir := filepath.Join(string(d), leasesDir)
	entries, err := os.ReadDir(dir)
	records := make(map[string]Record, len(entries))
	var errs []error
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		errs = append(errs, fmt.Errorf("read lease records: %w", err))
	}
	for _, entry := range entries {
		iface, ok := ifaceOf(entry.Name())
		if !ok {
			continue
		}
		r, err := readLease(filepath.Join(dir, entry.Name()))
		if errors.Is(err, fs.ErrNotExist) {
			continue // dropped since the folder was listed
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("read lease record: %w", err))
		}
		records[iface] = r
	}
	return records, errs
}

func readLease(path string) (Record, error) {
	var r Record
	if err := read(path, &r, maxFile); err != nil {
		return Record{}, err
	}
	if err := r.check(); err != nil {
		return Record{}, fmt.Errorf("%s: %w", path, err)
	}
	return r, nil
}

// WriteLease records a lease, in place of the interface's former one. It takes
// no lock: a DHCP client's word is recorded even while another run converges.
func (d Dir) WriteLease(iface string, r Record) error {
	if err := r.check(); err != nil {
		return fmt.Errorf("write lease record of %q: %w", iface, err)
	}
	if err := d.write(leasesDir, iface, r); err != nil {
		return fmt.Errorf("write lease record: %w", err)
	}
	return nil
}

// DropLease removes an interface's record, if there is one.
func (d Dir) DropLease(iface string) error {
	path, err := d.path(leasesDir, iface)
	if err == nil {
		err = remove(path)
	}
	if err != nil {
		return fmt.Errorf("drop lease record: %w", err)
	}
	return nil
}
