package lease_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"

	"wg-multihome/policy/lease"
)

// TestEnvironments reads testdata/environments: what real clients have said, and
// what is made of it. A file is named by its client, an environment by the
// action, "-" where there is none, and what had happened. They are written by
// TestClientFollowsItsServer of test/e2e with CLIENT_ENVIRONMENTS=FOLDER; with
// UPDATE_ENVIRONMENTS=1 the events are written anew, to be read before they are
// kept.
func TestEnvironments(t *testing.T) {
	files, err := filepath.Glob("testdata/environments/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no environments: %v", err)
	}
	for _, file := range files {
		client, _, _ := strings.Cut(strings.TrimSuffix(filepath.Base(file), ".txtar"), "-")
		a, err := txtar.ParseFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for i := 0; i+1 < len(a.Files); i += 2 {
			said, want := a.Files[i], &a.Files[i+1]
			e := env{}
			for _, line := range strings.Split(strings.TrimSuffix(string(said.Data), "\n"), "\n") {
				name, value, _ := strings.Cut(line, "=")
				e[name] = value
			}
			action, _, _ := strings.Cut(said.Name, " ")
			event, err := lease.Parse(client, strings.TrimPrefix(action, "-"), e.lookup)
			got := show(event) + "\n"
			if err != nil {
				got = "refused: " + err.Error() + "\n"
			}
			if os.Getenv("UPDATE_ENVIRONMENTS") != "" {
				want.Data = []byte(got)
			}
			if got != string(want.Data) {
				t.Errorf("%s, %s:\ngot  %swant %s", file, said.Name, got, want.Data)
			}
			// Nobody takes one client's environment for another's lease.
			for _, other := range []string{"dhclient", "dhcpcd"} {
				if taken, err := lease.Parse(other, "", e.lookup); other != client && err == nil {
					t.Errorf("%s, %s: %s took it for %s", file, said.Name, other, show(taken))
				}
			}
		}
		if os.Getenv("UPDATE_ENVIRONMENTS") != "" {
			if err := os.WriteFile(file, txtar.Format(a), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
}
