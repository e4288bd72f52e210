package main

import (
	"fmt"
	"runtime/debug"
)

// released is the version of the package that this build is for: the linker sets it
// (-X). Other builds have "".
var released string

// version is what --version says: which module version this is, the revision
// that it was built from, and by which Go.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "(built without modules)"
	}
	return versionOf(released, info)
}

func versionOf(released string, info *debug.BuildInfo) string {
	settings := map[string]string{}
	for _, s := range info.Settings {
		settings[s.Key] = s.Value
	}
	text := released
	if text == "" {
		text = info.Main.Version
	}
	if text == "" {
		text = "(devel)" // as Go itself says of a build that is of no version
	}
	if revision := settings["vcs.revision"]; revision != "" {
		text += ", revision " + revision
		if settings["vcs.modified"] == "true" {
			text += " with changes"
		}
	}
	return fmt.Sprintf("%s, built by %s for %s/%s", text, info.GoVersion, settings["GOOS"], settings["GOARCH"])
}
