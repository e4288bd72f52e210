package e2e

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"wg-multihome/test/lab"
)

// types is a program that types a line into its controlling terminal, if the kernel
// lets it (TIOCSTI is 0x5412), and says whether it did.
const types = `open(T, "+<", "/dev/tty") or print("no terminal\n"), exit;
for (split //, "typed\n") { ioctl(T, 0x5412, $_) or print("refused\n"), exit }
print "done\n"`

// allowTyping has the kernel let programs type into their terminal, as it does by
// default.
func allowTyping(t *testing.T) {
	t.Helper()
	const path = "/proc/sys/dev/tty/legacy_tiocsti"
	before, err := os.ReadFile(path)
	if os.IsNotExist(err) || string(before) == "1\n" { // before Linux 6.2 it lets everyone
		return
	}
	fatal(t, err)
	fatal(t, os.WriteFile(path, []byte("1"), 0))
	t.Cleanup(func() { fatal(t, os.WriteFile(path, before, 0)) })
}

// TestRunAsUserTypesNothing: a user's command cannot type into the terminal of its
// caller, whatever its standard files are.
func TestRunAsUserTypesNothing(t *testing.T) {
	allowTyping(t)
	for name, c := range map[string]struct{ with, files string }{
		"another program":       {"setpriv --reuid=4711 --clear-groups --", ""},
		"run":                   {"%s run --user ann up2 --", ""},
		"run without its files": {"%s run --user ann up2 --", "</dev/null >/run/said 2>&1"},
		"run in a pipeline":     {"true | %s run --user ann up2 --", "| cat"},
	} {
		t.Run(name, func(t *testing.T) {
			l, _ := runLab(t)
			ann(l)
			with := strings.ReplaceAll(c.with, "%s", l.Binary)
			_, keys, shown := startInTerminal(t, l, "sh", "-c", fmt.Sprintf(`%s perl -e '%s' %s; echo it ended; read line; echo "its caller reads $line"`, with, types, c.files))
			lab.Until(t, "the command ends", lab.Contains(shown.String, "it ended"))
			want := "its caller reads typed"
			if strings.Contains(with, "run") {
				want = "its caller reads mine"
				keys("mine\n")
			}
			lab.Until(t, "the caller reads\n"+shown.String(), lab.Contains(shown.String, "its caller reads "))
			wantPart(t, "terminal", shown.String(), want)
			if c.files == "" {
				wantPart(t, "what the command says", shown.String(), "done")
			}
		})
	}
}

// TestRunAsUserHasATerminal of its own, which is as its caller's is.
func TestRunAsUserHasATerminal(t *testing.T) {
	l, cgroups := runLab(t)
	ann(l)
	const script = `stty -a >/run/before
"$@" sh -c 'stty -icanon -echo; stty size; tty; until [ "$(stty size)" = "25 81" ]; do sleep 0.02; done; echo resized; test -w /dev/stdin && seq 1 3000'
echo ended $?; stty rows 24 cols 80; stty -a | diff - /run/before && echo as before`
	_, _, shown, pty := startInTerminalOf(t, l, unix.Winsize{Row: 24, Col: 80}, "sh", "-c", script, "-", l.Binary, "run", "--user", "ann", "up2", "--")
	lab.Until(t, "the command knows the size", lab.Contains(shown.String, "24 80\r\n/dev/pts/"))
	fatal(t, unix.IoctlSetWinsize(int(pty.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 25, Col: 81}))
	lab.Until(t, "its new size", lab.Contains(shown.String, "resized"))
	lab.Until(t, "the end", lab.Contains(shown.String, "ended 0"))
	wantPart(t, "all that it wrote", shown.String(), "2999\r\n3000\r\nended")
	lab.Until(t, "the caller's terminal is as before", lab.Contains(shown.String, "as before"))
	wantEqual(t, "cgroups afterwards", cgroups.List(), runSlice)
}

// TestRunAsUserReadsWhenItAsks: in a pipeline, where others may read from the
// terminal, what is typed is the command's once it wants to read there.
func TestRunAsUserReadsWhenItAsks(t *testing.T) {
	l, _ := runLab(t)
	ann(l)
	cmd, keys, shown := startInTerminal(t, l, "sh", "-c", `echo piped | "$@" | sed s/^/out:/; echo ended`, "-",
		l.Binary, "run", "--user", "ann", "up2", "--", "sh", "-c", "cat; echo asks >/dev/tty; read line </dev/tty; echo read $line")
	lab.Until(t, "the command asks", lab.Contains(shown.String, "asks"))
	keys("words\n")
	lab.Until(t, "the end", lab.Contains(shown.String, "ended"))
	wantPart(t, "terminal", shown.String(), "out:piped")
	wantPart(t, "terminal", shown.String(), "out:read words")
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}

// TestRunAsUserInTheBackground stops when it wants to read, and goes on in the
// foreground.
func TestRunAsUserInTheBackground(t *testing.T) {
	l, _ := runLab(t)
	ann(l)
	_, keys, shown := startInTerminal(t, l, "bash", "-mc", `"$@" & until [ "$(jobs -s)" ]; do sleep 0.02; done; echo it waits; fg; echo ended $?`, "-",
		l.Binary, "run", "--user", "ann", "up2", "--", "sh", "-c", "read line; echo read $line; exit 4")
	lab.Until(t, "it waits for the foreground", lab.Contains(shown.String, "it waits"))
	keys("words\n")
	lab.Until(t, "the end\n"+shown.String(), lab.Contains(shown.String, "ended 4"))
	wantPart(t, "terminal", shown.String(), "read words")
}

// TestRunAsUserHangsUp: where we are killed, the command's terminal is gone.
func TestRunAsUserHangsUp(t *testing.T) {
	l, cgroups := runLab(t)
	ann(l)
	cmd, _, shown := startInTerminal(t, l, l.Binary, "run", "--user", "ann", "up2", "--", "sh", "-c", "echo runs; exec sleep 1000")
	lab.Until(t, "the command runs", lab.Contains(shown.String, "runs"))
	fatal(t, cmd.Process.Signal(syscall.SIGKILL))
	lab.Until(t, "it ends", func() bool { return cgroups.Empty("") })
}
