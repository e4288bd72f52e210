package config

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// TestPlaces: what a configuration depends on, and what of it has a text.
func TestPlaces(t *testing.T) {
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	put := func(name, text string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(path(name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path(name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	put("interfaces", "source interfaces.d/*.cfg\nsource-directory more\nsource /nowhere/*/x\n")
	put("interfaces.d/a.cfg", "\n")
	put("more/b", "auto lo\n")
	c := Config{}.IfChanged(context.Background(), Files{Interfaces: path("interfaces"), TOML: path("toml")})
	files, folders := c.Places()
	for _, want := range []string{"toml", "interfaces", "interfaces.d/a.cfg", "more/b"} {
		if !slices.Contains(files, path(want)) {
			t.Errorf("%s is not among %v", want, files)
		}
	}
	if want := []string{"/nowhere", path("interfaces.d"), path("more")}; !slices.Equal(folders, want) {
		t.Errorf("folders %v, want %v", folders, want)
	}
	if texts, want := c.Texts(), []string{path("interfaces"), path("more/b")}; !slices.Equal(texts, want) {
		t.Errorf("with a text: %v, want %v", texts, want)
	}
}

// TestErrorsStand: an error is not asked about again while its files are the same.
func TestErrorsStand(t *testing.T) {
	file := filepath.Join(t.TempDir(), "toml")
	f := Files{Interfaces: "/nowhere", TOML: file}
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("priority = \"x\"\n")
	c := Load(context.Background(), f)
	again := c.IfChanged(context.Background(), f)
	if len(c.Problems) == 0 || again.source != c.source || !again.Same(c) {
		t.Errorf("problems %v, and then %v", c.Problems, again.Problems)
	}
	write("priority = 1000\n")
	if now := c.IfChanged(context.Background(), f); len(now.Problems) > 0 || now.Same(c) || now.Priority != 1000 {
		t.Errorf("%+v", now)
	}
}
