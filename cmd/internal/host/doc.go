// Package host is the edge to the machine: it observes and makes steps, and
// decides nothing. What decisions are made by comes from Observe, and their steps
// go through Apply. Beside these stand what is asked once a decision is made (Ask),
// and the peers, files and changes of WireGuard devices that a refresh takes.
package host
