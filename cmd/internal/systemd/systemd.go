// Package systemd is how commands ask systemd for something: whether it runs, and by
// systemctl(1) and systemd-run(1), which are found by absolute path and get an
// environment of their own.
package systemd

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// Units of ours, and those of others that matter to us.
const (
	Guards   = "wg-multihome.service"
	Watch    = "wg-multihome-watch.service"
	Networkd = "systemd-networkd.service"
	Nftables = "nftables.service"
)

// Where units lie: administrators', what was made since the boot, and packages'.
const (
	AdminUnits   = "/etc/systemd/system"
	RunUnits     = "/run/systemd/system"
	PackageUnits = "/usr/lib/systemd/system"
)

// Path is the PATH of what is started without its caller's environment.
const Path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// grace is how long a program whose time is over has to end.
const grace = time.Second

// folders are where systemd's programs are.
var folders = [...]string{"/usr/bin", "/bin"}

// Runs reports whether systemd is this host's init, as sd_booted(3) does.
func Runs() bool {
	info, err := os.Lstat(RunUnits)
	return err == nil && info.IsDir()
}

// RunsHere reports whether systemd runs, and this process shares the network and the
// mounts of its PID 1: only then what it starts acts on this host.
func RunsHere() bool {
	if !Runs() {
		return false
	}
	for _, kind := range []string{"net", "mnt"} {
		own, err := os.Readlink("/proc/self/ns/" + kind)
		theirs, err2 := os.Readlink("/proc/1/ns/" + kind)
		if err != nil || err2 != nil || own != theirs {
			return false
		}
	}
	return true
}

// RunPath returns the path of systemd-run(1) where systemd runs, and has it; else "".
func RunPath() string {
	if !Runs() {
		return ""
	}
	path, err := program("systemd-run")
	if err != nil {
		return ""
	}
	return path
}

// HasBus reports whether D-Bus can be reached, which a host that systemd runs may lack.
func HasBus() bool {
	c, err := net.Dial("unix", "/run/dbus/system_bus_socket")
	if err != nil {
		return false
	}
	_ = c.Close()
	return true
}

// program returns the path of one of systemd's.
func program(name string) (string, error) {
	for _, folder := range folders {
		path := filepath.Join(folder, name)
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() {
			return path, nil
		}
	}
	return "", fmt.Errorf("%s is neither in %s nor in %s", name, folders[0], folders[1])
}

// Command prepares a call of one of systemd's programs. What is the context's end is
// its end. Where systemd does not run, systemctl(1) does what it can do by files alone.
func Command(ctx context.Context, name string, args ...string) (*exec.Cmd, error) {
	path, err := program(name)
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Dir, cmd.Env, cmd.WaitDelay = "/", []string{Path, "LC_ALL=C"}, grace
	if !Runs() {
		cmd.Env = append(cmd.Env, "SYSTEMD_OFFLINE=1")
	}
	return cmd, nil
}
