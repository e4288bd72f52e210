// Package socket decides which cgroups have programs (BPF) that give their
// sockets a mark, and what these programs are.
//
// It is pure: what stands on cgroups goes in, steps come out. Package
// socket/kernel reads and applies.
//
// A socket that has its mark from the start has the right route and source from
// the start, without NAT or conntrack, and no flush of nftables takes it away.
// The programs know a mark and nothing else, so a change of addresses is none to
// them.
package socket
