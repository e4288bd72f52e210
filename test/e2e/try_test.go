package e2e

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"

	"wg-multihome/test/lab"
)

// shellServer runs what comes in as lines of shell, and answers with what they say.
const shellServer = `import socket, subprocess
s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind(("0.0.0.0", 2222)); s.listen(5)
while True:
    c, _ = s.accept()
    subprocess.Popen(["sh"], stdin=c.fileno(), stdout=c.fileno(), stderr=c.fileno()); c.close()
`

// shellClient types a line, and shows what comes until a line "done".
const shellClient = `import socket, sys
s = socket.create_connection((sys.argv[1], 2222), 2)
s.settimeout(60)
s.sendall((sys.argv[2] + "\n").encode())
text = b""
while b"\ndone\n" not in b"\n" + text:
    more = s.recv(4096)
    if not more: break
    text += more
print(text.decode(), end="")
`

// routerless leads what is sent from up1's address to a router that is not there.
func routed(l *lab.Lab, mark int, router string) string {
	return l.TOML(fmt.Sprintf("[uplink.up1]\nfwmark = %d\ngateway = [%q]\n", mark, router))
}

// TestTryFindsItsConnectionBack has the command that cuts the connection typed in
// that very connection: nothing comes back any more, and no other one is to be had.
// It is undone without anybody, and the connection goes on.
func TestTryFindsItsConnectionBack(t *testing.T) {
	l := newLab(t)
	l.Static()
	l.Start(nil, "python3", "-c", shellServer)
	config := routed(l, 0x2005, "192.0.2.1")
	l.MustMH("sync", "--config", config)
	knock := func() bool {
		return l.Far.Try(nil, "python3", "-c", `import socket; socket.create_connection(("192.0.2.10", 2222), 1)`).Code == 0
	}
	lab.Until(t, "the shell can be had from outside", knock)
	before := l.State()
	routed(l, 0x2005, "192.0.2.99")
	typed := l.Far.Command(context.Background(), nil, "python3", "-c", shellClient, "192.0.2.10", l.Binary+" sync --try 6s --config "+config+"; echo done")
	var said bytes.Buffer
	typed.Stdout, typed.Stderr = &said, &said
	if err := typed.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- typed.Wait() }()
	table := tableOf("192.0.2.10")
	lab.Until(t, "the connection is cut", func() bool { return strings.Contains(l.Default(table), "192.0.2.99") })
	if knock() && strings.Contains(l.Default(table), "192.0.2.99") {
		t.Error("the host can be reached all the same")
	}
	select {
	case err := <-ended:
		if err != nil || !strings.Contains(said.String(), "unless `wg-multihome confirm` comes first") {
			t.Errorf("%v, what came back: %s", err, said.String())
		}
	case <-time.After(lab.Patience):
		t.Fatal("the connection was not found back")
	}
	lab.Until(t, "all is as before", func() bool { return l.State() == before })

	r := l.MH("sync", "--config", config)
	wantCode(t, r, 2)
	wantPart(t, "sync of what was undone", r.Stderr, "not confirmed")
	wantCode(t, l.MH("sync", "--try", "60s", "--config", config), 2)
	wantCode(t, l.MH("sync", "--hook", "--config", config), 0)
	wantEqual(t, "state", l.State(), before)
	routed(l, 0x2006, "192.0.2.1")
	l.MustMH("sync", "--config", config)
	wantPart(t, "rules", l.Rules("-4"), "0x2006")
}

// TestTryOutlivesItsSession is undone when the run was killed at any time, with its
// shell and all of its process group: then nothing of ours is left, as before.
func TestTryOutlivesItsSession(t *testing.T) {
	l := newLab(t)
	l.Static()
	config := routed(l, 0x2005, "192.0.2.1")
	for _, after := range []string{"0.02", "0.05", "0.1", "0.3"} {
		l.Try(nil, "setsid", "sh", "-c", `"$0" sync --try 2s --config "$1" & sleep "$2"; kill -9 0`, l.Binary, config, after)
		lab.Until(t, "nothing of ours is left", func() bool {
			return !strings.Contains(l.State(), "proto 77") && !strings.Contains(l.Run("nft", "list", "tables"), "wg_multihome")
		})
		routed(l, 0x2005, "192.0.2.1")
		l.Write(config, l.Read(config)+"# "+after+"\n", 0o644)
	}
}

const tryFile = "/var/lib/wg-multihome/try.json"

// tried is a field of the state of the try.
func tried(l *lab.Lab, field string) string {
	_, value, _ := strings.Cut(l.Read(tryFile), fmt.Sprintf("%q: \"", field))
	value, _, _ = strings.Cut(value, `"`)
	return value
}

// waiter is what the command line of whoever undoes the try says.
func waiter(l *lab.Lab) string { return "revert --expired " + tried(l, "id") }

// TestTryIsConfirmed from another session, and asks for a try that is pending.
func TestTryIsConfirmed(t *testing.T) {
	l := newLab(t)
	l.Static()
	config := routed(l, 0x2005, "192.0.2.1")
	for _, command := range []string{"confirm", "revert"} {
		r := l.MH(command)
		wantCode(t, r, 1)
		wantPart(t, command, r.Stderr, "no try is pending")
	}
	l.MustMH("sync", "--config", config)
	routed(l, 0x2006, "192.0.2.1")
	l.MustMH("sync", "--try", "5m", "--config", config)
	wantPart(t, "status", l.MustMH("status", "--config", config).Stdout, "A TRY IS PENDING")
	routed(l, 0x2007, "192.0.2.1")
	l.MustMH("sync", "--try", "6m", "--config", config)
	if r := l.Try(nil, "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", l.Binary, "confirm"); r.Code != 1 || !strings.Contains(r.Stderr, "takes root") {
		t.Errorf("confirm as nobody: %+v", r)
	}
	l.MustMH("revert") // to what was before the first of the two
	wantPart(t, "rules", l.Rules("-4"), "0x2005")
	wantNone(t, "rules", l.Rules("-4"), "0x2006")
	wantNone(t, "rules", l.Rules("-4"), "0x2007")

	routed(l, 0x2008, "192.0.2.1")
	l.MustMH("sync", "--try", "3s", "--config", config)
	waits := waiter(l)
	wantPart(t, "confirm", l.MustMH("confirm").Stdout, "stays in force")
	wantCode(t, l.MH("confirm"), 1)
	lab.Until(t, "whoever waited has ended", func() bool {
		return exec.Command("pgrep", "-f", waits).Run() != nil
	})
	wantPart(t, "rules", l.Rules("-4"), "0x2008")
	l.MustMH("sync", "--config", config)
	for _, limit := range []string{"0s", "25h", "x"} {
		wantCode(t, l.MH("sync", "--try", limit), 2)
	}
}

// TestTryOverAReboot: what was not confirmed before it counts as undone, without
// anybody who waits, and without STATE-DIR.
func TestTryOverAReboot(t *testing.T) {
	l := newLab(t)
	l.Static()
	config := routed(l, 0x2005, "192.0.2.1")
	l.MustMH("sync", "--config", config)
	routed(l, 0x2006, "192.0.2.1")
	l.MustMH("sync", "--try", "5m", "--config", config)
	l.Run("pkill", "-9", "-f", waiter(l)) // its one process, by the try's number
	l.Write(tryFile, strings.Replace(l.Read(tryFile), tried(l, "boot"), "another", 1), 0o644)
	l.Script("rm -rf /run/wg-multihome; ip rule flush; ip rule add pref 32766 lookup main; ip -6 rule flush; ip -6 rule add pref 32766 lookup main; nft delete table inet wg_multihome")
	wantCode(t, l.MH("sync", "--hook", "--config", config), 0)
	wantPart(t, "rules", l.Rules("-4"), "0x2005")
	wantNone(t, "rules", l.Rules("-4"), "0x2006")
	r := l.MH("confirm")
	wantCode(t, r, 1)
	wantPart(t, "confirm", r.Stderr, "the last one was undone")
}
