package main

import "testing"

// TestExclusiveFlags: what goes without what is said before anything is done.
func TestExclusiveFlags(t *testing.T) {
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"status", "--json", "--metrics"}, "status takes --metrics or --json, not both"},
		{[]string{"status", "--exit-code", "--metrics"}, "status takes --metrics or --exit-code, not both"},
		{[]string{"explain", "--pid", "1", "--mark", "0x2005", "192.0.2.1"}, "explain takes --mark or --pid, not both"},
		{[]string{"sync", "--hook", "--try", "60s"}, "sync takes --hook or --try, not both"},
	} {
		p := &program{}
		root := p.command()
		root.SetArgs(append(c.args, "--state-dir", t.TempDir()))
		if err := root.Execute(); err == nil || err.Error() != c.want {
			t.Errorf("%v: %v, want %s", c.args, err, c.want)
		}
	}
}
