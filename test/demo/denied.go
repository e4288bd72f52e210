package main

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// A denial is a file that says that namespaces are not for everyone, and what to
// type about it.
type denial struct {
	file, value string
	mend        string
}

// denials are those that are known. The first is Debian's own, the last Ubuntu's.
var denials = []denial{
	{"/proc/sys/kernel/unprivileged_userns_clone", "0", "sysctl -w kernel.unprivileged_userns_clone=1"},
	{"/proc/sys/user/max_user_namespaces", "0", "sysctl -w user.max_user_namespaces=1000"},
	{"/proc/sys/user/max_net_namespaces", "0", "sysctl -w user.max_net_namespaces=1000"},
	{"/proc/sys/user/max_mnt_namespaces", "0", "sysctl -w user.max_mnt_namespaces=1000"},
	{"/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1", "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"},
}

// isDenial reports whether an error may come of namespaces that are denied.
func isDenial(err error) bool {
	for _, e := range []error{unix.EPERM, unix.EACCES, unix.ENOSPC, unix.EINVAL, unix.ENOSYS, unix.EUSERS} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// denied says by what namespaces are denied to this user.
func denied(err error) error {
	return errors.New(why(err, func(file string) string {
		text, _ := os.ReadFile(file) // not there: it denies nothing
		return string(text)
	}))
}

// why is denied for a host with such files.
func why(err error, read func(file string) string) string {
	said := fmt.Sprintf("this user may make no user namespace with networks in it: %s\n", err)
	for _, d := range denials {
		if strings.TrimSpace(read(d.file)) == d.value {
			name := strings.ReplaceAll(strings.TrimPrefix(d.file, "/proc/sys/"), "/", ".")
			said += fmt.Sprintf("denied by sysctl %s = %s; as root: %s\n", name, d.value, d.mend)
		}
	}
	if strings.Contains(said, "denied by") {
		return strings.TrimSuffix(said, "\n")
	}
	switch {
	case errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EUSERS):
		said += "there are as many as the sysctls user.max_*_namespaces allow, or they are nested too deep"
	case strings.Contains(read("/proc/self/status"), "\nSeccomp:\t2\n"):
		said += "a seccomp filter is in force here, as containers have one: try it outside"
	case errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS):
		said += "this kernel has none (CONFIG_USER_NS, CONFIG_NET_NS)"
	default:
		said += "no sysctl that is known denies it: a chroot does, and so do rules of a security module"
	}
	return said
}
