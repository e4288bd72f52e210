// Package events hears what the kernel tells of changes: of links, addresses,
// routes, rules and nexthop objects by rtnetlink, of our nftables table by
// nfnetlink, of cgroups and files by inotify.
//
// What is heard is a reason to look at the host, never an instruction: no message
// is taken for the state that it tells of. What cannot matter to any look is
// dropped where it is read, so that a routing daemon or a router's advertisements
// cost little.
package events
