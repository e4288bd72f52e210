package kernel

import (
	"errors"
	"fmt"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"wg-multihome/policy"
)

// Apply makes one step. What stands already, or is gone already, is done:
// others work on the same rules. Errors name the step, and keep the kernel's
// own words.
func (c *Client) Apply(s policy.Step) error {
	err := c.try(s)
	if err == nil || s.Op == policy.Add && errors.Is(err, unix.EEXIST) || s.Op == policy.Delete && gone(err) {
		return nil
	}
	return fmt.Errorf("%s: %w", s, err)
}

// try makes one step, and returns the kernel's own answer.
func (c *Client) try(s policy.Step) error {
	switch {
	case s.IsRoute && s.Op == policy.Add:
		return c.route(unix.RTM_NEWROUTE, unix.NLM_F_CREATE|unix.NLM_F_REPLACE, s.Route)
	case s.IsRoute:
		return c.route(unix.RTM_DELROUTE, 0, s.Route)
	case s.Op == policy.Add:
		return c.rule(unix.RTM_NEWRULE, unix.NLM_F_CREATE|unix.NLM_F_EXCL, s.Rule)
	}
	return c.rule(unix.RTM_DELRULE, 0, s.Rule)
}

// gone reports whether an error says that what was to be deleted is not there.
func gone(err error) bool {
	return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ESRCH) || errors.Is(err, unix.ENODEV)
}

func (c *Client) rule(kind, flags int, r policy.Rule) error {
	header, attrs := encodeRule(r)
	return c.execute(kind, flags, header, attrs)
}

func (c *Client) route(kind, flags int, r policy.Route) error {
	index, known := c.links[r.Device]
	if !known && r.Device != "" {
		return fmt.Errorf("interface %q: %w", r.Device, unix.ENODEV)
	}
	header, attrs := encodeRoute(r, index)
	if kind == unix.RTM_DELROUTE {
		header.Scope = unix.RT_SCOPE_NOWHERE // any: fib_table_delete
	}
	return c.execute(kind, flags, header, attrs)
}

func (c *Client) execute(kind, flags int, header *nl.RtMsg, attrs []*nl.RtAttr) error {
	req := request(c.steps, kind, flags|unix.NLM_F_ACK, header)
	for _, a := range attrs {
		req.AddData(a)
	}
	_, err := req.Execute(unix.NETLINK_ROUTE, 0)
	return err
}
