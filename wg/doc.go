// Package wg keeps WireGuard devices on their uplink: what carries which mark
// (Read), which marks are to change (Want and Release, pure), what a device
// gets when its uplink changes (Refresh, pure), and doing it (Apply).
//
// A device's mark is put on the tunnel's own UDP, so it pins the tunnel to an
// uplink. Kernel and userspace devices are treated alike. Of keys none is kept
// but the peers' public ones, and of those eight characters are shown; peers'
// other settings are nobody's business here.
package wg
