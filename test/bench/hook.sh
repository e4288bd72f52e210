# The peer of a changed lease: a hook in shell, for dhclient-script to source,
# that keeps the rules of an uplink's address and of its mark, and runs the hooks
# that want to know. Each rule is added in front of all others, so the last one
# of a block comes first.

table() {
	set -- $(IFS=.; echo $1)
	table=$((($1 << 24) + ($2 << 16) + ($3 << 8) + $4))
}

leave() {
	table "$old_ip_address"
	ip rule del from "$old_ip_address" lookup main suppress_prefixlength 0
	ip rule del from "$old_ip_address" lookup "$table"
	ip route flush table "$table"
	if [ -n "$mark" ]; then
		ip rule del fwmark "$mark" lookup main suppress_prefixlength 0
		ip rule del fwmark "$mark" lookup "$table"
		ip rule del fwmark "$mark" unreachable
	fi
}

enter() {
	table "$new_ip_address"
	ip route replace default via "${new_routers%% *}" dev "$interface" table "$table"
	ip rule add from "$new_ip_address" lookup "$table"
	ip rule add from "$new_ip_address" lookup main suppress_prefixlength 0
	if [ -n "$mark" ]; then
		ip rule add fwmark "$mark" unreachable
		ip rule add fwmark "$mark" lookup "$table"
		ip rule add fwmark "$mark" lookup main suppress_prefixlength 0
	fi
}

mark=$(ifquery "$interface" | sed -n 's/^multihomed-fwmark: *//p')
case $reason in
BOUND | RENEW | REBIND | REBOOT)
	if [ "$new_ip_address" != "$old_ip_address" ]; then
		[ -z "$old_ip_address" ] || leave
		enter
	fi
	IFACE=$interface FWMARK=$mark TABLE_ID=$table run-parts /etc/dhcp/multihomed.d
	;;
EXPIRE | FAIL | RELEASE | STOP) leave ;;
esac
