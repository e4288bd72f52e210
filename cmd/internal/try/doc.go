// Package try holds a configuration that is tried: one that is undone unless a
// person confirms it in time.
//
// Its state is one file, which outlives a reboot. Whoever waits for the time to be
// over is another process, or a timer of systemd's; each run reads the file, and
// what was not confirmed in time counts no more, whether that process lives or not.
package try
