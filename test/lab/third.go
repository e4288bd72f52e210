package lab

import "fmt"

// Third gives the host a third uplink, up3, by another ISP, which has
// 198.18.3.0/24 and 2001:db8:3::/64. Its addresses and default routes are as
// Static gives them to the others, and less preferred.
func (l *Lab) Third() *Namespace {
	l.t.Helper()
	isp := newNamespace(l.t, "isp3", false, basics)
	l.IP(fmt.Sprintf("link add up3 address 02:00:00:00:03:02 type veth peer name home netns %d\nlink set up3 up", isp.pid))
	l.Far.IP(fmt.Sprintf("link add f3 type veth peer name far netns %d", isp.pid))
	l.router(isp, 3, "198.18.3", "2001:db8:3")
	Until(l.t, "the third uplink has its link-local address", func() bool { return l.linkLocal() == 3 })
	l.IP(`addr add 198.18.3.10/24 dev up3
addr add 2001:db8:3::10/64 dev up3 nodad
route add default via 198.18.3.1 dev up3 metric 3
route add default via 2001:db8:3::1 dev up3 metric 3`)
	return isp
}
