// Package nft decides what stands in our nftables table, inet wg_multihome:
// the second lock (what carries a mark leaves by no uplink but its own, whatever
// becomes of the rules), DHCP's renewals, and services pinned by cgroup.
//
// It is pure: facts go in, a Ruleset comes out, and Diff tells it from what
// stands. Package nft/kernel reads and applies. The text of rules is that of
// nft(8), version 1.0.6.
package nft
