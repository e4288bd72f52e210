// Package policy holds every decision about rules and routes.
//
// It is pure: Facts (what the kernel and the DHCP clients say) and pins go in,
// a State and the steps towards it come out, with the text of each. It reads
// and changes nothing itself. What the rules are for, and why in this order,
// stands with Want, Open and Close.
package policy
