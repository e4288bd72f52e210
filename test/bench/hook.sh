# The peer of a changed lease: a hook in shell, for dhclient-script to source,
# that keeps the rules of an uplink's address and of its mark, and runs the hooks
# that want to know. It remembers nothing: an event may come twice, or without
# the old address, so what is there of it goes first. Each rule is added in front
# of all others, so the last one of a block comes first.

table() {
	set -- $(IFS=.; echo $1)
	table=$((($1 << 24) + ($2 << 16) + ($3 << 8) + $4))
}

forget() { # SELECTOR VALUE
	while ip rule del "$@" 2>/dev/null; do :; done
}

leave() { # ADDRESS
	table "$1"
	forget from "$1"
	ip route flush table "$table" 2>/dev/null
}

enter() { # ADDRESS
	leave "$1"
	ip route add default via "${new_routers%% *}" dev "$interface" table "$table"
	ip rule add from "$1" lookup "$table"
	ip rule add from "$1" lookup main suppress_prefixlength 0
	if [ -n "$mark" ]; then
		forget fwmark "$mark"
		ip rule add fwmark "$mark" unreachable
		ip rule add fwmark "$mark" lookup "$table"
		ip rule add fwmark "$mark" lookup main suppress_prefixlength 0
	fi
}

mark=$(ifquery "$interface" | sed -n 's/^multihomed-fwmark: *//p')
case $reason in
BOUND | RENEW | REBIND | REBOOT)
	[ -z "$old_ip_address" ] || [ "$old_ip_address" = "$new_ip_address" ] || leave "$old_ip_address"
	enter "$new_ip_address"
	IFACE=$interface FWMARK=$mark TABLE_ID=$table run-parts /etc/dhcp/multihomed.d
	;;
EXPIRE | FAIL | RELEASE | STOP) leave "$old_ip_address" ;;
esac
