// Package run runs a command pinned to an uplink.
//
// The command starts as a process of this program, which waits in a cgroup of
// its own, below the slice of the uplink's mark. Meanwhile its parent converges
// everything: the slice, which cannot go while a process lives in it, gets into
// the mark's set. Only then the order follows, over a socket: whose privileges
// to take, what to execute. Wherever either is killed, the command starts pinned
// or not at all.
//
// A command with other privileges has a session and a terminal of its own. Its
// process supervises it there, and this program passes on what is typed and shown.
package run
