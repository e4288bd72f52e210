package kernel

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"wg-multihome/policy"
)

// Apply makes the steps, in their order, each whatever became of the others,
// and returns the error of each. What stands already, or is gone already, is
// done: others work on the same rules. Errors name the step, and keep the
// kernel's own words.
func (c *Client) Apply(steps []policy.Step) []error {
	errs := c.try(steps)
	for i, err := range errs {
		s := &steps[i]
		switch {
		case err == nil, s.Op == policy.Add && errors.Is(err, unix.EEXIST), s.Op != policy.Add && gone(err):
			errs[i] = nil
		default:
			errs[i] = fmt.Errorf("%s: %w", s, err)
		}
	}
	return errs
}

// gone reports whether an error says that what was to be deleted is not there.
func gone(err error) bool {
	return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ESRCH) || errors.Is(err, unix.ENODEV)
}

// batchSize bounds the requests in one datagram, so that all their answers fit
// the socket's receive buffer (net.core.rmem_default, 208 KiB; an answer takes
// less than 1 KiB of it).
const batchSize = 128

// try makes the steps, and returns the kernel's own answers.
func (c *Client) try(steps []policy.Step) []error {
	errs := make([]error, len(steps))
	for begin := 0; begin < len(steps); begin += batchSize {
		end := min(begin+batchSize, len(steps))
		c.send(steps[begin:end], errs[begin:end])
	}
	return errs
}

// send makes steps by one datagram: the kernel works them off one by one before
// send(2) comes back, and answers those alone that failed, and the last.
func (c *Client) send(steps []policy.Step, errs []error) {
	s := c.socket
	first := s.sequence + 1
	last := -1 // the last step that could be written
	begin := 0 // of its message
	s.request = s.request[:0]
	for i := range steps {
		at := len(s.request)
		b, err := c.appendStep(s.request, first+uint32(i), &steps[i])
		if err != nil {
			errs[i] = err
			continue
		}
		s.request, last, begin = b, i, at
	}
	s.sequence += uint32(len(steps))
	if last < 0 {
		return
	}
	askAnswer(s.request[begin:])
	err := s.send()
	for done := false; err == nil && !done; {
		var b []byte
		if b, err = s.receive(); err == nil {
			done, err = answers(b, first, errs[:last+1])
		}
	}
	if err == nil {
		return
	}
	for i := range errs {
		if errs[i] == nil {
			errs[i] = err
		}
	}
}

// answers reads a datagram of answers into errs, by sequence number from first
// on, and reports whether that of the last request was among them.
func answers(b []byte, first uint32, errs []error) (last bool, err error) {
	for len(b) > 0 {
		var m message
		if m, b, err = nextMessage(b); err != nil {
			return false, err
		}
		if i := m.sequence - first; m.kind == unix.NLMSG_ERROR && i < uint32(len(errs)) {
			if errs[i], err = m.outcome(); err != nil {
				return false, err
			}
			last = last || i == uint32(len(errs)-1)
		}
	}
	return last, nil
}

func (c *Client) appendStep(b []byte, sequence uint32, s *policy.Step) ([]byte, error) {
	begin := len(b)
	switch {
	case s.Op == policy.Set:
		index, known := c.links[s.Link.Device]
		if !known {
			return b, fmt.Errorf("interface %q: %w", s.Link.Device, unix.ENODEV)
		}
		b = appendLinkGroup(beginMessage(b, unix.RTM_SETLINK, 0, sequence), index, s.Link.Group)
	case s.IsRoute:
		index, known := c.links[s.Route.Device]
		if !known && s.Route.Device != "" {
			return b, fmt.Errorf("interface %q: %w", s.Route.Device, unix.ENODEV)
		}
		if s.Op == policy.Add {
			b = beginMessage(b, unix.RTM_NEWROUTE, unix.NLM_F_CREATE|unix.NLM_F_REPLACE, sequence)
			b = appendRoute(b, &s.Route, index)
			break
		}
		b = beginMessage(b, unix.RTM_DELROUTE, 0, sequence)
		header := len(b)
		b = appendRoute(b, &s.Route, index)
		b[header+routeScope] = unix.RT_SCOPE_NOWHERE // any: fib_table_delete
	case s.Op == policy.Add:
		b = appendRule(beginMessage(b, unix.RTM_NEWRULE, unix.NLM_F_CREATE|unix.NLM_F_EXCL, sequence), &s.Rule)
	default:
		b = appendRule(beginMessage(b, unix.RTM_DELRULE, 0, sequence), &s.Rule)
	}
	return endMessage(b, begin), nil
}
