package refresh

import (
	"maps"

	"wg-multihome/cmd/internal/logging"
	"wg-multihome/cmd/internal/state"
)

// Due are the devices that are to be refreshed: those that are noted, and those
// that could not be.
type Due struct {
	State state.Dir
	Log   *logging.Logger

	unwritten map[string]bool
	tried     map[string]string // those that this run could not refresh, with their note
}

// Mark notes that devices are to be refreshed, before the step that makes them
// so. Where that cannot be written, this run remembers it.
func (d *Due) Mark(devices ...string) {
	for _, device := range devices {
		if err := d.State.MarkDue(device); err != nil {
			d.Log.Errorf("%s", err)
			if d.unwritten == nil {
				d.unwritten = map[string]bool{}
			}
			d.unwritten[device] = true
		}
	}
}

// Devices returns the devices that are due, each with its note, and leaves out
// those that this run has tried in vain.
func (d *Due) Devices() (map[string]string, error) {
	notes, err := d.State.Due()
	due := map[string]string{}
	for device := range d.unwritten {
		due[device] = ""
	}
	maps.Copy(due, notes)
	for device, note := range d.tried {
		if now, is := due[device]; is && now == note {
			delete(due, device)
		}
	}
	return due, err
}

// done takes away the note of a device that was refreshed.
func (d *Due) done(device, note string) error {
	delete(d.unwritten, device)
	err := d.State.ClearDue(device, note)
	if err != nil {
		d.failed(map[string]string{device: note})
	}
	return err
}

// failed remembers notes of devices that could not be refreshed.
func (d *Due) failed(notes map[string]string) {
	if d.tried == nil {
		d.tried = map[string]string{}
	}
	maps.Copy(d.tried, notes)
}
