// Package lease turns a DHCP client's environment into a lease event.
//
// It is pure: a look-up function goes in, an Event comes out. Every value in
// that environment was chosen by whoever answered on the network, so what is
// not exactly what the client writes is refused, with an error of one line
// that names the variable and its value.
package lease
