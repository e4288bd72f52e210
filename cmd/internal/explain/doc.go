// Package explain says which way a packet goes, and what decides: the rules one by
// one, the second lock, the source, and whether the kernel's own look-up agrees.
//
// It decides by a Decision, and by a look at the kernel for each packet. What it
// knows of rules is policy.Routing.Trace, of the second lock nft.Way, and of whose
// a destination is policy.Destinations.Of.
package explain
