// Package kernel reads links, addresses, rules and routes over rtnetlink(7),
// and makes the changes that policy has decided on. It decides nothing.
//
// Rules and routes have a codec of their own: netlink's drops what does not
// suit it (the type of a rule, `suppress_prefixlength` of a high table), and
// keeps table numbers in an int, so that on 32-bit machines a route in a table
// above 2³¹ lands in main, without an error.
package kernel
