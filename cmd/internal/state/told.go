package state

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"time"
)

// Told is what hooks were told of an uplink last. It outlives a release: the
// next lease is news only where it differs from this.
type Told struct {
	Families map[string]ToldFamily `json:"families"` // by "4" and "6"; absent: nothing was told yet
}

// ToldFamily is what was told of an uplink's address in one family.
type ToldFamily struct {
	Address netip.Addr `json:"address"`
	Gateway netip.Addr `json:"gateway"` // invalid, "" in the file: none; unspecified: the link has none
	Bound   time.Time  `json:"bound"`   // the lease's last BOUND or REBOOT; zero: no lease
}

// ReadTold returns what was told of an interface; Families is never nil. Where
// nothing was told, that is no error. Where the file cannot be read, the error
// names it and nothing counts as told, so everything is told again: each
// change is to be told at least once.
func (d Dir) ReadTold(iface string) (Told, error) {
	path, err := d.path(toldDir, iface)
	var t Told
	if err == nil {
		err = read(path, &t, maxFile)
	}
	if err == nil {
		if err = t.check(); err != nil {
			err = fmt.Errorf("%s: %w", path, err)
		}
	}
	nothing := Told{Families: map[string]ToldFamily{}}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nothing, nil
	case err != nil:
		return nothing, fmt.Errorf("read what was told: %w", err)
	case t.Families == nil:
		return nothing, nil
	}
	return t, nil
}

// bitLen are the families that a file may name, and their addresses' lengths.
var bitLen = map[string]int{"4": 32, "6": 128}

func (t Told) check() error {
	for family, f := range t.Families {
		bits, ok := bitLen[family]
		if !ok {
			return fmt.Errorf("family %q is neither 4 nor 6", family)
		}
		for _, addr := range []netip.Addr{f.Address, f.Gateway} {
			if addr.IsValid() && addr.BitLen() != bits {
				return fmt.Errorf("address %s is not of family %s", addr, family)
			}
		}
	}
	return nil
}

// WriteTold keeps what was told of an interface, in place of what was before.
func (d Dir) WriteTold(iface string, t Told) error {
	if err := t.check(); err != nil {
		return fmt.Errorf("write what was told of %q: %w", iface, err)
	}
	if err := d.write(toldDir, iface, t); err != nil {
		return fmt.Errorf("write what was told: %w", err)
	}
	return nil
}
