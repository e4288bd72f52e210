package kernel

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// membarrierGlobal is MEMBARRIER_CMD_GLOBAL of linux/membarrier.h.
const membarrierGlobal = 1

// Settle returns when every packet has left the hooks of netfilter that was in one of
// them at the call: a hook is gone through in an RCU read-side section (nf_hook), and
// membarrier(2) waits for all of these, some 10 ms. A kernel that has none
// (CONFIG_MEMBARRIER, nohz_full) is an error; nothing was waited for then.
func Settle() error {
	_, _, errno := unix.Syscall(unix.SYS_MEMBARRIER, membarrierGlobal, 0, 0)
	if errno != 0 {
		return fmt.Errorf("wait for packets that are on their way: membarrier: %w", errno)
	}
	return nil
}
