package logging

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// isTerminal reports whether a person reads f.
func isTerminal(f *os.File) bool {
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}

// isJournal reports whether f goes to the journal: stream is JOURNAL_STREAM,
// which systemd sets to the device and inode of the stream that it made. A
// service that sends its stderr elsewhere keeps the variable, so it takes the
// comparison that systemd.exec(5) asks for.
func isJournal(f *os.File, stream string) bool {
	var st unix.Stat_t
	if stream == "" || unix.Fstat(int(f.Fd()), &st) != nil {
		return false
	}
	return stream == fmt.Sprintf("%d:%d", st.Dev, st.Ino)
}
