package lab

import (
	"os"
	"os/signal"
	"syscall"
)

// DefaultSignals has programs that tests start get SIGHUP and SIGINT as a shell
// gives them to a command: not ignored. What this process ignores, under
// nohup(1) or behind a shell's `&`, it would pass on; what it takes it does not.
// It lives on all the same when one comes.
func DefaultSignals() {
	unread := make(chan os.Signal, 1)
	for _, s := range []os.Signal{syscall.SIGHUP, syscall.SIGINT} {
		if signal.Ignored(s) {
			signal.Notify(unread, s)
		}
	}
}
