package lab

import "testing"

// hereBasics are what the machine's own network is made to be like.
const hereBasics = `
for d in all default; do echo 0 >/proc/sys/net/ipv6/conf/$d/accept_dad; done
echo 1 >/proc/sys/net/ipv4/conf/all/promote_secondaries`

// Here builds a lab whose host is the machine itself: systemd puts cgroups into
// sets of PID 1's network, and networkd and NetworkManager work there. It is for a
// machine that is the test's own. The uplinks go when the test ends.
func Here(t testing.TB, binary string) *Lab {
	t.Helper()
	host := &Namespace{t: t, name: "machine", pid: 1, mounts: true}
	host.Script(hereBasics)
	t.Cleanup(func() {
		for _, device := range []string{"up1", "up2"} {
			host.Try(nil, "ip", "link", "delete", device)
		}
	})
	mount := cgroupMount(t)
	return around(t, binary, host, Cgroups{t: t, Root: "/", dir: mount, mount: mount})
}
