package systemd

import (
	"context"
	"strings"
	"testing"
)

// TestCommand: a program is found by its absolute path, and gets nothing of this
// process's environment.
func TestCommand(t *testing.T) {
	t.Setenv("SECRET", "word")
	t.Setenv("PATH", "/nowhere")
	cmd, err := Command(context.Background(), "env") // which lies beside systemd's
	if err != nil {
		t.Fatal(err)
	}
	said, err := cmd.Output()
	want := Path + "\nLC_ALL=C\n"
	if !Runs() {
		want += "SYSTEMD_OFFLINE=1\n"
	}
	if err != nil || string(said) != want {
		t.Errorf("%v\n%swant\n%s", err, said, want)
	}
	if _, err := Command(context.Background(), "no-such-program"); err == nil || !strings.Contains(err.Error(), "no-such-program is neither in /usr/bin nor in /bin") {
		t.Errorf("one that is not there: %v", err)
	}
}
