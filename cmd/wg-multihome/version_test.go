package main

import (
	"runtime/debug"
	"testing"
)

func TestVersion(t *testing.T) {
	info := func(version string, settings ...string) *debug.BuildInfo {
		i := &debug.BuildInfo{GoVersion: "go1.23.1", Main: debug.Module{Version: version}}
		for n := 0; n < len(settings); n += 2 {
			i.Settings = append(i.Settings, debug.BuildSetting{Key: settings[n], Value: settings[n+1]})
		}
		return i
	}
	for want, in := range map[string]*debug.BuildInfo{
		"v1.2.3, built by go1.23.1 for linux/arm64":                         info("v1.2.3", "GOOS", "linux", "GOARCH", "arm64"),
		"(devel), built by go1.23.1 for linux/386":                          info("", "GOOS", "linux", "GOARCH", "386"),
		"(devel), revision 0123abcd, built by go1.23.1 for linux/386":       info("(devel)", "GOOS", "linux", "GOARCH", "386", "vcs.revision", "0123abcd", "vcs.modified", "false"),
		"v1.2.4, revision 0123abcd with changes, built by go1.23.1 for a/b": info("v1.2.4", "GOOS", "a", "GOARCH", "b", "vcs.revision", "0123abcd", "vcs.modified", "true"),
	} {
		if got := versionOf("", in); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	want := "0~git1, built by go1.23.1 for linux/arm64"
	if got := versionOf("0~git1", info("(devel)", "GOOS", "linux", "GOARCH", "arm64")); got != want {
		t.Errorf("of a package: got %q, want %q", got, want)
	}
}
