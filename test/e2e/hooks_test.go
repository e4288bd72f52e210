package e2e

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"wg-multihome/test/lab"
)

func TestHooksGetACleanEnvironment(t *testing.T) {
	l := newLab(t)
	l.Static()
	l.Interfaces(pinned)
	l.Write("/etc/dhcp/multihomed.d/env", "#!/bin/sh\nenv | sort | grep -v '^PWD=\\|^_=\\|^SHLVL=' >>/run/env.$IFACE.$MULTIHOMED_FAMILY\n", 0o755)
	r := l.Try([]string{"new_domain_name=$(reboot)", "LD_PRELOAD=", "reason=BOUND", "interface=up2", "new_ip_address=" + two4,
		"new_subnet_mask=255.255.255.0", "new_routers=198.51.100.1"}, l.Binary, "exit-hook")
	wantCode(t, r, 0)
	wantEqual(t, "environment", l.Read("/run/env.up2.4"), `FWMARK=0x2005
IFACE=up2
MULTIHOMED_EVENT=up
MULTIHOMED_FAMILY=4
MULTIHOMED_GATEWAY=198.51.100.1
MULTIHOMED_NEW_ADDRESS=198.51.100.10
MULTIHOMED_OLD_ADDRESS=
MULTIHOMED_WIREGUARD=
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
TABLE_ID=3325256714
`)
	if l.Read("/run/env.up2.6") == "" {
		t.Error("the IPv6 address was not told")
	}
}

func TestHooksThatHangOrForkOrFail(t *testing.T) {
	for name, c := range map[string]struct{ hook, timeout, say string }{
		"hangs":                        {"exec sleep 1000", "300ms", "was ended after"},
		"forks":                        {"sleep 1000 &\nsleep 1000", "300ms", "was ended after"},
		"fails":                        {"exit 3", "300ms", "exit status"},
		"leaves its output to another": {"sleep 1000 &", "10s", "left a process"},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			l.Static()
			l.Write("/etc/dhcp/multihomed.d/bad", "#!/bin/sh\n[ $IFACE$MULTIHOMED_FAMILY = up24 ] || exit 0\n"+c.hook+"\n", 0o755)
			config := l.TOML("hook-timeout = \"" + c.timeout + "\"\n[uplink.up2]\nfwmark = 0x2005\n")
			r := l.MH("sync", "--config", config)
			wantCode(t, r, 1)
			wantPart(t, "the message", r.Stderr, c.say)
			l.WantSeen(lab.Far4, "", mark, two4)
			wantCode(t, l.MH("sync", "--config", config), 0) // it was told
			if out := l.Try(nil, "sh", "-c", "grep -lz '^sleep$' /proc/[0-9]*/cmdline | xargs -r grep -lz '^IFACE=up2$' 2>/dev/null | head").Stdout; out != "" {
				t.Errorf("left behind: %s", out)
			}
		})
	}
}

func TestRunPartsMissing(t *testing.T) {
	l := newLab(t)
	l.Static()
	l.Interfaces(pinned)
	l.Hook()
	l.Script("mkdir /run/none; for d in /usr/bin; do mkdir /run/bin; cp -a $d/. /run/bin; rm /run/bin/run-parts; mount --bind /run/bin $d; done")
	r := l.MH("sync")
	wantCode(t, r, 1)
	wantPart(t, "the message", r.Stderr, "run-parts")
	l.WantSeen(lab.Far4, "", mark, two4)
	l.Run("umount", "--lazy", "/usr/bin")
	wantCode(t, l.MH("sync"), 0)
	wantPart(t, "told", l.ToldLog(), "up up2 4 - 198.51.100.10") // not lost
}

func TestKilledDuringAHookTellsAgain(t *testing.T) {
	l := newLab(t)
	l.Static()
	l.Interfaces(pinned)
	l.Write("/etc/dhcp/multihomed.d/slow", "#!/bin/sh\necho $IFACE$MULTIHOMED_FAMILY $MULTIHOMED_EVENT >>/run/told\n[ -e /run/quick ] || exec sleep 5\n", 0o755)
	ctx, cancel := context.WithTimeout(context.Background(), lab.Patience)
	defer cancel()
	cmd := l.Command(ctx, nil, l.Binary, "sync")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lab.Until(t, "the first hook runs", lab.Contains(func() string { return l.Read("/run/told") }, "up14 up"))
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	l.Write("/run/quick", "", 0o644)
	l.MustMH("sync")
	if n := strings.Count(l.Read("/run/told"), "up14 up\n"); n != 2 {
		t.Errorf("told %d times, want 2:\n%s", n, l.Read("/run/told"))
	}
	wantPart(t, "told", l.Read("/run/told"), "up24 up")
	told := l.Read("/run/told")
	l.MustMH("sync")
	wantEqual(t, "told once it was told", l.Read("/run/told"), told)
}

func TestHookThatCallsUs(t *testing.T) {
	l := newLab(t)
	l.Static()
	l.Interfaces(pinned)
	l.Write("/etc/dhcp/multihomed.d/sync", "#!/bin/sh\necho x >>/run/calls\n"+l.Binary+" sync && "+l.Binary+" hook\n", 0o755)
	l.MustMH("sync")
	wantEqual(t, "calls", l.Read("/run/calls"), strings.Repeat("x\n", 4)) // two uplinks, two families
}

func TestTwentyRunsAtOnce(t *testing.T) {
	l := newLab(t)
	l.Static()
	l.Interfaces(pinned)
	l.Hook()
	var all sync.WaitGroup
	results := make([]lab.Result, 20)
	for i := range results {
		all.Add(1)
		go func() {
			defer all.Done()
			results[i] = l.MH("sync")
		}()
	}
	all.Wait()
	for _, r := range results {
		wantCode(t, r, 0)
	}
	noDrift(t, l)
	if n := strings.Count(l.ToldLog(), "\n"); n != 4 {
		t.Errorf("told %d times, want 4:\n%s", n, l.ToldLog())
	}
	l.WantSeen(lab.Far4, "", mark, two4)
}

func TestLockThatIsHeld(t *testing.T) {
	l := newLab(t)
	l.Static()
	l.MustMH("sync")
	stop := l.Start(nil, "flock", "/run/wg-multihome/lock", "sleep", "60")
	defer stop()
	lab.Until(t, "the lock is held", func() bool {
		return l.Try(nil, "flock", "--nonblock", "/run/wg-multihome/lock", "true").Code != 0
	})
	begun := time.Now()
	r := l.MH("sync", "--hook")
	wantCode(t, r, 0)
	wantPart(t, "the message", r.Stderr, "holds the lock")
	if time.Since(begun) < 4*time.Second {
		t.Error("it did not wait")
	}
}
