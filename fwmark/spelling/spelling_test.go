package spelling

import "testing"

func TestDidYouMean(t *testing.T) {
	known := []string{"sync", "refresh", "run", "status", "cgroups", "fwmark", "marking"}
	for word, want := range map[string]string{
		"snyc": `"sync"`, "syn": `"sync"`, "SYNC": `"sync"`, "sync": "", "synchronous": "",
		"cgrups": `"cgroups"`, "cgroup": `"cgroups"`, "mark": `"fwmark" or "marking"`,
		"re": `"refresh"`, "ru": `"run"`, "rum": `"run"`, "xy": "", "x": "", "": "", "sta": `"status"`, "stätus": `"status"`,
		"\x00": "", "a\nb": "",
	} {
		if want != "" {
			want = " (did you mean " + want + "?)"
		}
		if got := DidYouMean(word, known); got != want {
			t.Errorf("%q: %q, want %q", word, got, want)
		}
	}
	if got := Instead("s", known); got != "" {
		t.Errorf("one that begins with s: %q", got)
	}
}

func TestDistance(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want int
	}{
		{"", "", 0}, {"", "a", 1}, {"ab", "", 2}, {"", "abc", 3}, {"abc", "abc", 0}, {"abc", "abd", 1}, {"abc", "xabc", 1}, {"abc", "ac", 1},
		{"abcd", "bacd", 2}, {"abcd", "dcba", 3}, {"kitten", "sitting", 3}, {"multihome-fwmark", "multihomed-fwmark", 1},
	} {
		if got := distance([]rune(c.a), []rune(c.b)); got != c.want || distance([]rune(c.b), []rune(c.a)) != c.want {
			t.Errorf("%q, %q: %d, want %d", c.a, c.b, got, c.want)
		}
	}
}
