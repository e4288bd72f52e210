package kernel

import (
	"errors"
	"fmt"

	"github.com/vishvananda/netlink/nl"
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
		s := steps[i]
		switch {
		case err == nil, s.Op == policy.Add && errors.Is(err, unix.EEXIST), s.Op == policy.Delete && gone(err):
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

// try makes the steps, and returns the kernel's own answers.
func (c *Client) try(steps []policy.Step) []error {
	errs := make([]error, len(steps))
	reqs := make([]*nl.NetlinkRequest, 0, len(steps))
	places := make([]int, 0, len(steps)) // of each request among the steps
	for i, s := range steps {
		req, err := c.request(s)
		if err != nil {
			errs[i] = err
			continue
		}
		reqs, places = append(reqs, req), append(places, i)
	}
	for i, err := range c.steps.execute(reqs) {
		errs[places[i]] = err
	}
	return errs
}

func (c *Client) request(s policy.Step) (*nl.NetlinkRequest, error) {
	switch {
	case s.IsRoute && s.Op == policy.Add:
		return c.route(unix.RTM_NEWROUTE, unix.NLM_F_CREATE|unix.NLM_F_REPLACE, s.Route)
	case s.IsRoute:
		return c.route(unix.RTM_DELROUTE, 0, s.Route)
	case s.Op == policy.Add:
		return message(unix.RTM_NEWRULE, unix.NLM_F_CREATE|unix.NLM_F_EXCL)(encodeRule(s.Rule)), nil
	}
	return message(unix.RTM_DELRULE, 0)(encodeRule(s.Rule)), nil
}

func (c *Client) route(kind, flags int, r policy.Route) (*nl.NetlinkRequest, error) {
	index, known := c.links[r.Device]
	if !known && r.Device != "" {
		return nil, fmt.Errorf("interface %q: %w", r.Device, unix.ENODEV)
	}
	header, attrs := encodeRoute(r, index)
	if kind == unix.RTM_DELROUTE {
		header.Scope = unix.RT_SCOPE_NOWHERE // any: fib_table_delete
	}
	return message(kind, flags)(header, attrs), nil
}

// message makes a request of a header and attributes.
func message(kind, flags int) func(*nl.RtMsg, []*nl.RtAttr) *nl.NetlinkRequest {
	return func(header *nl.RtMsg, attrs []*nl.RtAttr) *nl.NetlinkRequest {
		req := nl.NewNetlinkRequest(kind, flags)
		req.AddData(header)
		for _, a := range attrs {
			req.AddData(a)
		}
		return req
	}
}
