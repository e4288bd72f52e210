// Package flows makes conntrack know the TCP connections that run already, so
// that a chain which marks new connections leaves them alone.
//
// Conntrack keeps nothing of a network namespace until some rule there asks it
// to. A connection that is older than that is new to it with its next packet,
// after seconds or hours, and a chain that marks new connections would send it
// by another uplink, where it dies. No grace time helps: an idle connection
// outlasts it.
//
// So the connections are read from their sockets, over sock_diag(7), and are
// entered into conntrack as ones that have seen packets both ways, over
// ctnetlink. UDP has no connections to read: what runs is taken for new.
//
// Measured on Linux 6.18:
//   - An expression `ct state` turns conntrack on, in a chain that no hook
//     calls too: one table with one such rule is enough, for both families if
//     it is an inet one.
//   - Entries can be made before that, and they turn on neither conntrack nor
//     its defragmentation. They hold when it is turned on.
//   - When its last rule goes conntrack is turned off, some milliseconds later,
//     and the entries stay. Turned on again it goes on with them: it forgets
//     what windows it knew.
//   - net.netfilter.nf_conntrack_tcp_loose decides about connections that
//     conntrack does not know. Entered ones go on with 0 as with 1.
//   - An entry that translates addresses or ports is found by either side's
//     tuple, so a connection behind it is known and not entered again.
package flows
