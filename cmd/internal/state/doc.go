// Package state keeps the files under STATE-DIR: what DHCP clients said, what
// was told to hooks, what is to be refreshed, and the locks.
//
//	leases/IFACE.json  a lease record: an observation, never a copy of kernel state
//	told/IFACE.json    what hooks were told of an uplink last
//	sysctl/IFACE.json  there while we have set an interface's src_valid_mark
//	sockets.json       services that are marked by socket: their cgroups, and whose their marks are; and whether all cgroups were asked
//	due/DEV            a WireGuard device that is to be refreshed
//	lock               held by the run that converges; its time is that of the last one's end
//	tell.lock          held by the run that tells
//	due.lock           held while a note under due is made or removed
//
// Records are written to a file beside their place and renamed, so a reader
// finds the old one or the new one, whole. A killed writer leaves a file
// `.IFACE.json` with digits behind it, which no reader takes for a record.
// IFACE is always a name that fwmark.ValidName accepts, so no name leaves its
// directory.
package state
