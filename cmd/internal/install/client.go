package install

import "wg-multihome/cmd/internal/systemd"

// A Client is a program that calls us, or that has to be told about us.
type Client string

// The clients, in the order in which their files are written.
const (
	Dhclient       Client = "dhclient"
	Dhcpcd         Client = "dhcpcd"
	Udhcpc         Client = "udhcpc"
	NetworkManager Client = "NetworkManager"
	Ifupdown       Client = "ifupdown"
	PPP            Client = "ppp"
	Networkd       Client = "systemd-networkd"
	WgQuick        Client = "wg-quick"
	Systemd        Client = "systemd"
)

// A probe is a path that shows that a client is there. Its last element may be a
// pattern, as path.Match knows them.
type probe struct {
	client Client
	path   string
}

// probes are asked in this order; the first that is there is the reason that
// people are told.
//
// networkd is part of Debian's systemd, so its program says nothing. Whatever
// link it manages, it deletes all rules that it does not know when that one is
// configured anew: so it counts where it is enabled, and where it has been given
// a link.
var probes = []probe{
	{Dhclient, "/usr/sbin/dhclient"},
	{Dhclient, "/sbin/dhclient"},
	{Dhcpcd, "/usr/sbin/dhcpcd"},
	{Dhcpcd, "/sbin/dhcpcd"},
	{Udhcpc, "/usr/sbin/udhcpc"},
	{Udhcpc, "/sbin/udhcpc"},
	{NetworkManager, "/usr/sbin/NetworkManager"},
	{Ifupdown, "/usr/sbin/ifup"},
	{Ifupdown, "/sbin/ifup"},
	{PPP, "/usr/sbin/pppd"},
	{Networkd, systemd.AdminUnits + "/multi-user.target.wants/" + systemd.Networkd},
	{Networkd, systemd.AdminUnits + "/sockets.target.wants/systemd-networkd.socket"},
	{Networkd, "/etc/systemd/network/*.network"},
	{Networkd, "/run/systemd/network/*.network"},
	{WgQuick, "/usr/bin/wg-quick"},
	{Systemd, "/usr/lib/systemd/systemd"},
	{Systemd, "/lib/systemd/systemd"},
}
