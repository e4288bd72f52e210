// Package watch stays, hears what the kernel tells, and has the host converge at
// once.
//
// When to look, what is put back later and whom that is due to are pure
// decisions: Fights, Hold and Pace. The loop takes what was heard, looks, and
// decides nothing about the host: that is done by the one pipeline that all
// commands use, from what it finds. Hooks and refreshes run beside the loop.
package watch
