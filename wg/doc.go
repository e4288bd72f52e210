// Package wg keeps the firewall marks of WireGuard devices: what carries which
// (Read), what is to change (Want and Release, pure), and changing it (Apply).
//
// A device's mark is put on the tunnel's own UDP, so it pins the tunnel to an
// uplink. Kernel and userspace devices are treated alike. Keys are never kept
// and never shown; the rest of a device's configuration is nobody's business
// here.
package wg
