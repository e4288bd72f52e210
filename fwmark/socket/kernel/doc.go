// Package kernel attaches programs of package socket to cgroups, tells what is
// attached, gives sockets that exist already their marks, and ends TCP connections that
// can get none. It decides nothing.
//
// It speaks bpf(2) itself: it needs four commands to change and three to read, and
// a library for them adds a megabyte. It takes CAP_BPF and CAP_NET_ADMIN, or
// CAP_SYS_ADMIN; to read the programs that stand CAP_SYS_ADMIN in any case, and to
// reach into other processes' sockets CAP_SYS_PTRACE.
//
// What is attached needs no process and no bpffs, and goes with its cgroup.
package kernel
