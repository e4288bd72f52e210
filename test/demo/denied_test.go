package main

import (
	"fmt"
	"testing"

	"golang.org/x/sys/unix"
)

func TestWhy(t *testing.T) {
	const begin = "this user may make no user namespace with networks in it: start: "
	for name, c := range map[string]struct {
		err   error
		files map[string]string
		want  string
	}{
		"Debian": {unix.EPERM, map[string]string{"/proc/sys/kernel/unprivileged_userns_clone": "0\n", "/proc/sys/user/max_user_namespaces": "9999\n"},
			"operation not permitted\ndenied by sysctl kernel.unprivileged_userns_clone = 0; as root: sysctl -w kernel.unprivileged_userns_clone=1"},
		"a limit of 0": {unix.ENOSPC, map[string]string{"/proc/sys/user/max_user_namespaces": "0\n"},
			"no space left on device\ndenied by sysctl user.max_user_namespaces = 0; as root: sysctl -w user.max_user_namespaces=1000"},
		"AppArmor and a limit": {unix.EACCES, map[string]string{"/proc/sys/kernel/apparmor_restrict_unprivileged_userns": "1\n", "/proc/sys/user/max_net_namespaces": "0\n"},
			"permission denied\ndenied by sysctl user.max_net_namespaces = 0; as root: sysctl -w user.max_net_namespaces=1000\n" +
				"denied by sysctl kernel.apparmor_restrict_unprivileged_userns = 1; as root: sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"},
		"a limit that is reached": {unix.ENOSPC, map[string]string{"/proc/sys/user/max_user_namespaces": "9999\n"},
			"no space left on device\nthere are as many as the sysctls user.max_*_namespaces allow, or they are nested too deep"},
		"a container": {unix.EPERM, map[string]string{"/proc/self/status": "Name:\tx\nSeccomp:\t2\nSeccomp_filters:\t1\n"},
			"operation not permitted\na seccomp filter is in force here, as containers have one: try it outside"},
		"a kernel without": {unix.EINVAL, nil, "invalid argument\nthis kernel has none (CONFIG_USER_NS, CONFIG_NET_NS)"},
		"a chroot": {unix.EPERM, map[string]string{"/proc/self/status": "Seccomp:\t0\n"},
			"operation not permitted\nno sysctl that is known denies it: a chroot does, and so do rules of a security module"},
	} {
		got := why(fmt.Errorf("start: %w", c.err), func(file string) string { return c.files[file] })
		if got != begin+c.want {
			t.Errorf("%s:\n%s\nwant:\n%s", name, got, begin+c.want)
		}
	}
}
