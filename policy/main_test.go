package policy_test

import (
	"flag"
	"os"
	"testing"
)

// TestMain has properties tried 1,000 times where -rapid.checks says nothing
// else: worlds are quickly made, and most of them are dull.
func TestMain(m *testing.M) {
	flag.Parse()
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "rapid.checks" })
	if !given {
		if err := flag.Set("rapid.checks", "1000"); err != nil {
			panic(err)
		}
	}
	os.Exit(m.Run())
}
