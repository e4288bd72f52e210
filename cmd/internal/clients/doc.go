// Package clients says what address sources do to a host with several uplinks that
// no hook can mend: facts in, findings out. It is pure. `doctor` will show them.
package clients
