package e2e

import (
	"testing"

	"wg-multihome/test/lab"
)

// TestLockFileIsAFIFO: opening one would wait for its other end, for ever. A run
// says so, and does its work without the lock.
func TestLockFileIsAFIFO(t *testing.T) {
	for _, file := range []string{"lock", "tell.lock", "due.lock"} {
		t.Run(file, func(t *testing.T) {
			l := newLab(t)
			l.Static()
			l.Hook()
			hostConfig, _ := peers(t)
			host := l.Tunnel(l.Namespace, "wg0", hostConfig)
			l.Interfaces("iface up2 inet dhcp\n\tmultihomed-fwmark 0x2005\n\tmultihomed-wireguard wg0\n")
			l.Script("mkdir /run/wg-multihome; mkfifo /run/wg-multihome/" + file)
			r := l.MH("sync")
			wantCode(t, r, 1)
			wantPart(t, "the message", r.Stderr, "/run/wg-multihome/"+file+": not a regular file")
			noDrift(t, l)
			wantEqual(t, "mark of the device", host.Get("fwmark"), "8197")
			l.WantSeen(lab.Far4, "", mark, two4)
			wantPart(t, "told", l.ToldLog(), "up up2 4 - "+two4)
			wantCode(t, l.MH("sync", "--hook"), 0)
			l.Script("rm /run/wg-multihome/" + file)
			wantCode(t, l.MH("sync"), 0)
		})
	}
}
