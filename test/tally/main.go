// Tally reads `go test -json` on standard input, shows what failed, and adds
// its counts to the file that it is given: passed, failed, skipped. It exits
// with 1 where anything failed, or was skipped: what cannot run here does not
// count as tested.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
)

// event is a line of `go test -json`, `go doc test2json`.
type event struct {
	Action  string
	Package string
	Test    string
	Output  string
	Elapsed float64 // in seconds
}

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: go test -json … | tally FILE")
		os.Exit(2)
	}
	passed, failed, skipped, err := read()
	if err == nil {
		err = add(os.Args[1], passed, failed, skipped)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "tally:", err)
		os.Exit(1)
	}
	if failed+skipped > 0 || passed == 0 {
		os.Exit(1)
	}
}

func read() (passed, failed, skipped int, err error) {
	output := map[string]string{}
	lines := bufio.NewReader(os.Stdin)
	for {
		line, readErr := lines.ReadBytes('\n')
		if len(line) == 0 && readErr != nil {
			return passed, failed, skipped, nil
		}
		var e event
		if json.Unmarshal(line, &e) != nil {
			fmt.Print(string(line)) // the go command's own words
			continue
		}
		key := e.Package + " " + e.Test
		switch e.Action {
		case "output", "build-output":
			output[key] += e.Output
		case "pass":
			if e.Test != "" {
				passed++
			} else {
				fmt.Printf("ok    %s (%.0f s)\n", e.Package, e.Elapsed)
			}
			delete(output, key)
		case "fail":
			failed++
			fmt.Printf("FAIL  %s\n%s", key, output[key])
		case "build-fail":
			fmt.Print(output[key])
		case "skip":
			if e.Test != "" { // a package without tests is no test
				skipped++
				fmt.Printf("SKIP  %s\n%s", key, output[key])
			}
		}
	}
}

func add(path string, passed, failed, skipped int) error {
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintln(f, passed, failed, skipped); err != nil {
		return err
	}
	return f.Close()
}
