package wg

import (
	"context"
	"net"

	"wg-multihome/fwmark/regular"
)

// maxFile bounds what is read of a configuration file, in bytes.
const maxFile = 4 << 20

// ReadFile reads a device's configuration file, as ParseFile does: with an error
// comes what can be read all the same. Where there is none, that is an
// fs.ErrNotExist.
func ReadFile(path string) (File, error) {
	text, err := regular.Read(path, maxFile)
	if err != nil {
		return File{Path: path}, err
	}
	return ParseFile(path, text, service)
}

// service looks a name up in services(5).
func service(name string) (uint16, bool) {
	resolver := net.Resolver{PreferGo: true}
	port, err := resolver.LookupPort(context.Background(), "udp", name)
	return uint16(port), err == nil && port > 0 && port < 1<<16
}
