package main

import (
	"encoding/binary"
	"fmt"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"wg-multihome/fwmark/nlsock"
	"wg-multihome/nft"
	"wg-multihome/policy/kernel"
)

// said is what was heard, and when: a rule without its priority, the table of a
// route, what came into our nftables table; "- " before a rule that went.
type said struct {
	text string
	at   time.Time
}

// hear subscribes, apart from what is measured, and hands what comes to heard.
func hear(heard chan<- said) error {
	routing, err := join(unix.NETLINK_ROUTE, unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV6_ROUTE, unix.RTNLGRP_IPV4_RULE, 19)
	if err != nil {
		return err
	}
	tables, err := join(unix.NETLINK_NETFILTER, 7)
	if err != nil {
		return err
	}
	go read(routing, heard, routingText)
	go read(tables, heard, tableText)
	return nil
}

func routingText(m nlsock.Message) string {
	n, err := kernel.ReadNotice(m.Kind, m.Body)
	switch {
	case err != nil:
	case n.Subject == kernel.RuleSubject:
		words := strings.Fields(n.Rule.String()) // rule FAMILY PRIORITY …
		text := strings.Join(append(words[:2:2], words[3:]...), " ")
		if n.Gone {
			text = "- " + text
		}
		return text
	case n.Subject == kernel.RouteSubject && !n.Gone:
		return fmt.Sprintf("route of table %d", n.Route.Table)
	}
	return ""
}

// tableText is "nft CHAIN" for a rule of ours that has come, "nft SET" for elements;
// "- nft CHAIN" and "- nft" for a rule and the table that went.
func tableText(m nlsock.Message) string {
	const header = 4 // struct nfgenmsg
	if len(m.Body) < header {
		return ""
	}
	table, rest := attributeText(m.Body[header:])
	if table != nft.Table {
		return ""
	}
	name, _ := attributeText(rest)
	switch m.Kind & 0xff {
	case unix.NFT_MSG_NEWRULE, unix.NFT_MSG_NEWSETELEM:
		return "nft " + name
	case unix.NFT_MSG_DELRULE:
		return "- nft " + name
	case unix.NFT_MSG_DELTABLE:
		return "- nft"
	}
	return ""
}

// attributeText cuts off an attribute that is a text: those of both kinds begin with
// the table's name, and that of the chain or set follows.
func attributeText(b []byte) (text string, rest []byte) {
	if len(b) < unix.NLA_HDRLEN {
		return "", nil
	}
	length := int(binary.NativeEndian.Uint16(b))
	if length < unix.NLA_HDRLEN || length > len(b) {
		return "", nil
	}
	aligned := (length + unix.NLA_ALIGNTO - 1) &^ (unix.NLA_ALIGNTO - 1)
	return unix.ByteSliceToString(b[unix.NLA_HDRLEN:length]), b[min(aligned, len(b)):]
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
func read(s *nlsock.Socket, heard chan<- said, text func(nlsock.Message) string) {
	for {
		datagram, err := s.Receive() // an error is that nothing has come for a while
		now := time.Now()
		for err == nil && len(datagram) > 0 {
			var m nlsock.Message
			if m, datagram, err = nlsock.Cut(datagram); err == nil {
				if t := text(m); t != "" {
					heard <- said{t, now}
				}
			}
		}
	}
}
