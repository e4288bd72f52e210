package main

import (
	"bytes"
	"fmt"

	"golang.org/x/sys/unix"

	"wg-multihome/fwmark/nlsock"
	"wg-multihome/policy/kernel"
)

// hear subscribes, apart from what is measured, and hands what comes to heard: the
// text of a rule, the table of a route, "nft" for our table.
func hear(heard chan<- string) error {
	routing, err := join(unix.NETLINK_ROUTE, unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV6_ROUTE, unix.RTNLGRP_IPV4_RULE, 19)
	if err != nil {
		return err
	}
	tables, err := join(unix.NETLINK_NETFILTER, 7)
	if err != nil {
		return err
	}
	go read(routing, heard, func(m nlsock.Message) string {
		n, err := kernel.ReadNotice(m.Kind, m.Body)
		switch {
		case err != nil || n.Gone:
		case n.Subject == kernel.RuleSubject:
			return n.Rule.String()
		case n.Subject == kernel.RouteSubject:
			return fmt.Sprintf("route of table %d", n.Route.Table)
		}
		return ""
	})
	go read(tables, heard, func(m nlsock.Message) string {
		if m.Kind&0xff == unix.NFT_MSG_NEWRULE && bytes.Contains(m.Body, []byte("wg_multihome")) {
			return "nft"
		}
		return ""
	})
	return nil
}

func join(family int, groups ...int) (*nlsock.Socket, error) {
	s, err := nlsock.Open(family)
	if err != nil {
		return nil, err
	}
	for _, group := range groups {
		if err := unix.SetsockoptInt(s.FD, unix.SOL_NETLINK, unix.NETLINK_ADD_MEMBERSHIP, group); err != nil {
			return nil, err
		}
	}
	return s, unix.SetsockoptInt(s.FD, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 64<<20)
}

// read goes on until the process ends.
func read(s *nlsock.Socket, heard chan<- string, text func(nlsock.Message) string) {
	for {
		datagram, err := s.Receive() // an error is that nothing has come for a while
		for err == nil && len(datagram) > 0 {
			var m nlsock.Message
			if m, datagram, err = nlsock.Cut(datagram); err == nil {
				if said := text(m); said != "" {
					heard <- said
				}
			}
		}
	}
}
