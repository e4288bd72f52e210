package host

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"wg-multihome/cmd/internal/doctor"
)

// readProcesses reads which processes are in this network namespace. One that has ended
// meanwhile is left out, and one that not even root may look at, as a container's init.
func readProcesses(f *doctor.Facts) error {
	own, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		return err
	}
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return err
	}
	for _, dir := range dirs {
		theirs, err := os.Readlink(filepath.Join(dir, "ns/net"))
		if errors.Is(err, fs.ErrPermission) && os.Geteuid() != 0 {
			return fmt.Errorf("look at the processes of others: %w", err)
		}
		if err != nil || theirs != own {
			continue
		}
		line, err := os.ReadFile(filepath.Join(dir, "cmdline"))
		if err != nil || len(line) == 0 { // the kernel's own have none
			continue
		}
		name, err := os.ReadFile(filepath.Join(dir, "comm"))
		if err != nil {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(dir))
		if err != nil {
			continue
		}
		exe, _ := os.Readlink(filepath.Join(dir, "exe")) // "" where it has ended since
		f.Processes = append(f.Processes, doctor.Process{
			PID: pid, Name: string(bytes.TrimSpace(name)), Args: strings.Split(strings.TrimRight(string(line), "\x00"), "\x00"), Exe: exe,
		})
	}
	return nil
}
