package decide

import (
	"fmt"

	"wg-multihome/wg"
)

// Contradictions name the devices whose file sets another mark than the one
// that they have from us: each reload takes ours off until the next run. files
// are the devices' configuration files, those that could be read.
func (d Decision) Contradictions(files map[string]wg.File) []string {
	var say []string
	for _, p := range d.Pins {
		for _, device := range d.Present(p.Devices) {
			if f := files[device]; f.Mark != 0 && f.Mark != p.Mark.Value {
				say = append(say, fmt.Sprintf("%s: FwMark = %#x is not mark %s of uplink %q, which %q has", f.Path, f.Mark, p.Mark, p.Uplink, device))
			}
		}
	}
	return say
}
