package events

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"wg-multihome/cmd/internal/decide"
)

// bufferSize is that of a socket's receive buffer, in bytes: some 10,000 messages.
const bufferSize = 8 << 20

// Groups of rtnetlink that golang.org/x/sys/unix has not on all machines,
// linux/rtnetlink.h; and that of nfnetlink.
const (
	groupIPv6Rule = 19
	groupNexthop  = 32
	groupNftables = 7
)

// routingGroups are heard by one socket, so that their order stays.
var routingGroups = []uint32{
	unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR, unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV6_ROUTE,
	unix.RTNLGRP_IPV4_RULE, groupIPv6Rule, groupNexthop,
}

// Options are for tests.
type Options struct {
	Buffer int // of each socket's receive buffer, in bytes; 0: 8 MiB
}

// Source hears. Its methods may be called from several goroutines.
type Source struct {
	// Lacks is why our nftables table is not heard of, nil: it is.
	Lacks error

	conns  []*netlink.Conn
	places *places
	ready  chan struct{}
	ended  chan struct{}
	wait   sync.WaitGroup

	mu     sync.Mutex
	heard  Heard
	filter filter
	failed error
}

// Open subscribes to everything but cgroups and files, which Follow names, and
// begins to read. What changes after it has returned is heard.
func Open(o Options) (*Source, error) {
	if o.Buffer == 0 {
		o.Buffer = bufferSize
	}
	s := &Source{ready: make(chan struct{}, 1), ended: make(chan struct{})}
	routing, err := subscribe(unix.NETLINK_ROUTE, o.Buffer, routingGroups)
	if err != nil {
		return nil, fmt.Errorf("hear rtnetlink: %w", err)
	}
	s.conns = append(s.conns, routing)
	tables, err := subscribe(unix.NETLINK_NETFILTER, o.Buffer, []uint32{groupNftables})
	if err == nil {
		s.conns = append(s.conns, tables)
	} else {
		s.Lacks = fmt.Errorf("hear nftables: %w", err) // a kernel without them
	}
	if s.places, err = openPlaces(); err != nil {
		s.closeConns()
		return nil, fmt.Errorf("hear of files: %w", err)
	}
	s.wait.Add(1)
	go s.read(routing, s.routing)
	if tables != nil {
		s.wait.Add(1)
		go s.read(tables, s.table)
	}
	s.wait.Add(1)
	go s.readPlaces()
	return s, nil
}

// subscribe opens a socket that hears groups. A group that this kernel has not
// is none that tells anything: nexthop objects came with Linux 5.3.
func subscribe(family, buffer int, groups []uint32) (*netlink.Conn, error) {
	c, err := netlink.Dial(family, nil)
	if err != nil {
		return nil, err
	}
	err = c.SetReadBuffer(buffer)
	for _, group := range groups {
		joined := c.JoinGroup(group)
		if group == groupNexthop && errors.Is(joined, unix.EINVAL) {
			joined = nil
		}
		err = errors.Join(err, joined)
	}
	if err != nil {
		_ = c.Close() // nothing was sent
		return nil, err
	}
	return c, nil
}

// Close ends the hearing.
func (s *Source) Close() {
	close(s.ended)
	s.closeConns()
	s.places.close()
	s.wait.Wait()
}

func (s *Source) closeConns() {
	for _, c := range s.conns {
		_ = c.Close() // nothing was sent
	}
}

// Ready tells that there is something to take, or that Err has an error.
func (s *Source) Ready() <-chan struct{} { return s.ready }

// Err returns why nothing is heard any more, nil where that is not so.
func (s *Source) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.failed
}

// Take takes what was heard. It is to be called right before a look: what is
// heard from now on, that look need not have seen.
func (s *Source) Take() Heard {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := s.heard
	s.heard = Heard{}
	s.filter.looking()
	select {
	case <-s.ready:
	default:
	}
	return h
}

// Follow says what is of interest by the last look. Where something of it may
// have changed since that look and was not heard, because it was of none before,
// it is heard now.
func (s *Source) Follow(i Interest) error {
	armed, err := s.places.follow(i.Places, i.Again)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.filter.follow(i) {
		armed |= decide.Routes
	}
	s.add(armed)
	return err
}

// hear adds a change, while mu is held.
func (s *Source) hear(c Cause) {
	if len(s.heard.Causes) < MaxCauses {
		if c.Port != 0 && c.Port < unnamed {
			c.Process = processName(c.Port) // now: most live for a moment
		}
		s.heard.Causes = append(s.heard.Causes, c)
	}
	s.heard.Changes++
	s.add(stale[c.Kind])
}

// add makes parts stale, while mu is held.
func (s *Source) add(parts decide.Parts) {
	if parts == 0 {
		return
	}
	if s.heard.First.IsZero() {
		s.heard.First = time.Now()
	}
	s.heard.Stale |= parts
	s.wake()
}

func (s *Source) wake() {
	select {
	case s.ready <- struct{}{}:
	default:
	}
}

// overrun says that messages were lost: everything is stale.
func (s *Source) overrun() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.filter.forget()
	s.heard.Overruns++
	s.add(decide.Everything)
}

func (s *Source) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failed == nil {
		s.failed = err
	}
	s.wake()
}

func (s *Source) closed() bool {
	select {
	case <-s.ended:
		return true
	default:
		return false
	}
}
