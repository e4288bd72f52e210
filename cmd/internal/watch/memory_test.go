package watch

import (
	"os"
	"regexp"
	"strconv"
	"testing"
)

// TestTidy gives back pages of the test's own code, which it goes on to execute.
func TestTidy(t *testing.T) {
	resident := func() int {
		text, err := os.ReadFile("/proc/self/status")
		if err != nil {
			t.Fatal(err)
		}
		m := regexp.MustCompile(`(?m)^RssFile:\s+(\d+) kB$`).FindSubmatch(text)
		if m == nil {
			t.Fatalf("no RssFile in %s", text)
		}
		n, _ := strconv.Atoi(string(m[1])) // of digits
		return n
	}
	before := resident()
	Tidy()
	if after := resident(); after >= before {
		t.Errorf("%d kB of files are resident, and %d before", after, before)
	}
}

func TestCode(t *testing.T) {
	for line, want := range map[string]bool{
		"00400000-00c4d000 r-xp 00000000 fe:00 1234                               /usr/sbin/wg-multihome": true,
		"00c4d000-01612000 r--p 0084d000 fe:00 1234                               /usr/sbin/wg-multihome": false, // maybe relocated
		"01612000-01690000 rw-p 01212000 fe:00 1234                               /usr/sbin/wg-multihome": false,
		"7f0000000000-7f0000001000 r-xp 00000000 fe:00 99                         /usr/lib/libc.so.6":     false,
		"7ffd8b5f3000-7ffd8b5f5000 r-xp 00000000 00:00 0                          [vdso]":                 false,
		"7ffd8b5f3000 r-xp": false, "": false,
	} {
		start, end, ok := code(line, "/usr/sbin/wg-multihome")
		if ok != want || ok && (start != 0x400000 || end != 0xc4d000) {
			t.Errorf("%q: %x-%x %t", line, start, end, ok)
		}
	}
}
