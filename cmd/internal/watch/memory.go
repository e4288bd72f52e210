package watch

import (
	"bufio"
	"fmt"
	"os"
	"runtime/debug"
	"strings"

	"golang.org/x/sys/unix"
)

// Tidy gives back the memory that work took. Of the program's code the kernel keeps what
// was executed once, for as long as the process lives; it is mapped again from the page
// cache where it is executed again (madvise(2): MADV_DONTNEED of a private mapping that
// nobody has written to). What cannot be given back stays.
func Tidy() {
	debug.FreeOSMemory()
	program, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return
	}
	maps, err := os.Open("/proc/self/maps")
	if err != nil {
		return
	}
	defer maps.Close()
	for lines := bufio.NewScanner(maps); lines.Scan(); {
		if start, end, ok := code(lines.Text(), program); ok {
			_, _, _ = unix.Syscall(unix.SYS_MADVISE, start, end-start, unix.MADV_DONTNEED) // see above
		}
	}
}

// code returns the addresses of a mapping of the program's code, by its line of
// proc_pid_maps(5). What can be read alone is none: relocations may have been written there.
func code(line, program string) (start, end uintptr, ok bool) {
	var access string
	if _, err := fmt.Sscanf(line, "%x-%x %s", &start, &end, &access); err != nil {
		return 0, 0, false
	}
	return start, end, access == "r-xp" && strings.HasSuffix(line, " "+program)
}
