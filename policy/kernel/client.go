package kernel

import (
	"fmt"
	"hash/maphash"
)

// Client speaks rtnetlink in the network namespace of the thread that opened
// it. It is not for several goroutines at once.
type Client struct {
	socket *socket
	links  map[string]uint32 // index by name, as read last
	names  map[uint32]string // the other way round
	seed   maphash.Seed      // of hashes of answers

	nexthops nexthops // those that routes had, as read last
}

// Open opens the socket. It needs no privilege; changing anything does.
func Open() (*Client, error) {
	s, err := openSocket()
	if err != nil {
		return nil, fmt.Errorf("open rtnetlink: %w", err)
	}
	return &Client{socket: s, seed: maphash.MakeSeed()}, nil
}

// Close closes the socket.
func (c *Client) Close() { c.socket.Close() }

func (c *Client) device(index uint32) string { return c.names[index] }
