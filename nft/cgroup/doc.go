// Package cgroup tells the ids of cgroups, by which nftables knows them, and
// makes and removes those of `run`. It decides nothing.
//
// A cgroup that was made anew has a new id, so nothing is kept from call to
// call: a long-running process asks as a short one does.
package cgroup
