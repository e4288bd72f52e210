package state_test

import (
	"errors"
	"io/fs"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"wg-multihome/cmd/internal/state"
)

var (
	bound = time.Date(2026, 1, 2, 3, 4, 5, 678, time.UTC)
	when  = bound.Add(time.Hour)

	record = state.Record{Address: netip.MustParsePrefix("1.2.3.4/24"), Gateway: netip.MustParseAddr("1.2.3.1"), When: when, Bound: bound}
)

func tempDir(t *testing.T) state.Dir {
	return state.Dir(filepath.Join(t.TempDir(), "run", "wg-multihome"))
}

// put writes a file as somebody else would.
func put(t *testing.T, d state.Dir, path, text string) {
	t.Helper()
	path = filepath.Join(string(d), path)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Error(err)
	}
}

func TestLeases(t *testing.T) {
	d := tempDir(t)
	if got, errs := d.ReadLeases(); len(got) != 0 || errs != nil {
		t.Errorf("without a directory: %v %v", got, errs)
	}
	check(t, d.DropLease("eth0"))

	noGateway, noVia := record, record
	noGateway.Gateway = netip.Addr{}
	noVia.Gateway, noVia.Bound = netip.IPv4Unspecified(), time.Time{}
	want := map[string]state.Record{"enp2s0.5": record, "..x": noGateway, "eth0": noVia}
	check(t, d.WriteLease("eth0", record))
	for iface, r := range want {
		check(t, d.WriteLease(iface, r))
	}
	if got, errs := d.ReadLeases(); !maps.Equal(got, want) || errs != nil {
		t.Errorf("got %v %v, want %v", got, errs, want)
	}
	check(t, d.DropLease("eth0"))
	check(t, d.DropLease("eth0"))
	delete(want, "eth0")
	if got, errs := d.ReadLeases(); !maps.Equal(got, want) || errs != nil {
		t.Errorf("got %v %v, want %v", got, errs, want)
	}
}

func TestLeaseFile(t *testing.T) {
	defer syscall.Umask(syscall.Umask(0o077)) // what a DHCP client may have
	d := tempDir(t)
	path := filepath.Join(string(d), "leases", "eth0.json")
	r := record
	r.Gateway = netip.Addr{}
	put(t, d, "leases/eth0.json", "{}") // mode 0600 here
	check(t, d.WriteLease("eth0", r))
	text, err := os.ReadFile(path)
	check(t, err)
	want := `{
	"address": "1.2.3.4/24",
	"gateway": "",
	"when": "2026-01-02T04:04:05.000000678Z",
	"bound": "2026-01-02T03:04:05.000000678Z"
}
`
	if string(text) != want {
		t.Errorf("got %s", text)
	}
	check(t, d.WriteTold("eth0", state.Told{}))
	for path, mode := range map[string]fs.FileMode{
		path: 0o644, filepath.Join(string(d), "told"): fs.ModeDir | 0o755,
		filepath.Join(string(d), "told", "eth0.json"): 0o644,
	} {
		if info, err := os.Stat(path); err != nil || info.Mode() != mode {
			t.Errorf("%s: %v %v, want mode %v", path, info.Mode(), err, mode)
		}
	}
	if left, _ := os.ReadDir(filepath.Dir(path)); len(left) != 1 {
		t.Errorf("left in the folder: %v", left)
	}
}

func TestReadLeasesRefuses(t *testing.T) {
	for name, text := range map[string]string{
		"empty":           "",
		"cut":             `{"address": "1.2.3.4/24"`,
		"two":             `{"address": "1.2.3.4/24"} {}`,
		"null":            "null",
		"no address":      `{"gateway": "1.2.3.1"}`,
		"empty address":   `{"address": ""}`,
		"no prefix":       `{"address": "1.2.3.4"}`,
		"prefix too long": `{"address": "1.2.3.4/33"}`,
		"address":         `{"address": "1.2.3/24"}`,
		"number":          `{"address": 16909060}`,
		"gateway":         `{"address": "1.2.3.4/24", "gateway": "router"}`,
		"families":        `{"address": "1.2.3.4/24", "gateway": "fe80::1"}`,
		"time":            `{"address": "1.2.3.4/24", "when": "yesterday"}`,
		"too long":        `{"address": "1.2.3.4/24"}` + strings.Repeat(" ", 64<<10),
		"binary":          "\x00\xff\x00",
	} {
		t.Run(name, func(t *testing.T) {
			d := tempDir(t)
			check(t, d.WriteLease("eth1", record))
			put(t, d, "leases/eth0.json", text)
			got, errs := d.ReadLeases()
			if want := map[string]state.Record{"eth0": {}, "eth1": record}; !maps.Equal(got, want) {
				t.Errorf("got %v, want %v", got, want)
			}
			if len(errs) != 1 || !strings.Contains(errs[0].Error(), "leases/eth0.json") {
				t.Errorf("errors %v", errs)
			}
		})
	}
}

func TestReadLeasesOfOtherVersions(t *testing.T) {
	d := tempDir(t)
	put(t, d, "leases/eth0.json", `{"address": "1.2.3.4/24", "gateway": null, "client": "dhcpcd", "when": "2026-01-02T03:04:05+01:00"}`)
	got, errs := d.ReadLeases()
	if r := got["eth0"]; errs != nil || r.Address != record.Address || r.Gateway.IsValid() {
		t.Errorf("got %v %v", got, errs)
	}
}

func TestReadLeasesIgnores(t *testing.T) {
	d := tempDir(t)
	check(t, d.WriteLease("eth0", record))
	for _, name := range []string{
		".eth0.json4893489348934", // renameio's, of a killed writer
		"eth0", "eth0.json~", ".json", "..json", "...json", "a b.json", "abcdefghijklmnop.json", "README",
	} {
		put(t, d, "leases/"+name, "rubbish")
	}
	got, errs := d.ReadLeases()
	if want := map[string]state.Record{"eth0": record}; !maps.Equal(got, want) || errs != nil {
		t.Errorf("got %v %v", got, errs)
	}
}

// What is no file must not keep a run waiting: opening a FIFO would.
func TestReadLeasesOfNoFiles(t *testing.T) {
	d := tempDir(t)
	leases := filepath.Join(string(d), "leases")
	check(t, os.MkdirAll(filepath.Join(leases, "eth0.json"), 0o755))
	check(t, syscall.Mkfifo(filepath.Join(leases, "eth1.json"), 0o644))
	check(t, os.Symlink("/dev/zero", filepath.Join(leases, "eth2.json")))
	check(t, os.Symlink("nowhere", filepath.Join(leases, "eth3.json")))
	got, errs := d.ReadLeases()
	if names := slices.Sorted(maps.Keys(got)); len(errs) != 3 || !slices.Equal(names, []string{"eth0", "eth1", "eth2"}) {
		t.Errorf("got %v %v", names, errs)
	}
}

func TestStateDirIsAFile(t *testing.T) {
	d := state.Dir(filepath.Join(t.TempDir(), "file"))
	put(t, d, "", "")
	if got, errs := d.ReadLeases(); len(got) != 0 || len(errs) != 1 {
		t.Errorf("got %v %v", got, errs)
	}
	for name, err := range map[string]error{
		"WriteLease": d.WriteLease("eth0", record), "DropLease": d.DropLease("eth0"), "WriteTold": d.WriteTold("eth0", state.Told{}),
	} {
		if !errors.Is(err, syscall.ENOTDIR) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestNames(t *testing.T) {
	d := tempDir(t)
	for _, name := range []string{"", ".", "..", "../eth0", "a/b", "/etc/passwd", "a\n", "abcdefghijklmnop"} {
		_, readErr := d.ReadTold(name)
		for call, err := range map[string]error{
			"WriteLease": d.WriteLease(name, record), "DropLease": d.DropLease(name),
			"ReadTold": readErr, "WriteTold": d.WriteTold(name, state.Told{}),
		} {
			if err == nil {
				t.Errorf("%s takes %q", call, name)
			}
		}
	}
	if _, err := os.Stat(string(d)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("something was made: %v", err)
	}
}

func TestWriteRefuses(t *testing.T) {
	d := tempDir(t)
	bad := record
	bad.Gateway = netip.MustParseAddr("fe80::1")
	if d.WriteLease("eth0", state.Record{}) == nil || d.WriteLease("eth0", bad) == nil {
		t.Error("a record that could not be read again was written")
	}
	for family, f := range map[string]state.ToldFamily{"5": {}, "6": {Address: netip.MustParseAddr("1.2.3.4")}} {
		if d.WriteTold("eth0", state.Told{Families: map[string]state.ToldFamily{family: f}}) == nil {
			t.Errorf("%s %v was written", family, f)
		}
	}
}

func TestTold(t *testing.T) {
	d := tempDir(t)
	got, err := d.ReadTold("eth0")
	if err != nil || got.Families == nil || len(got.Families) != 0 {
		t.Errorf("nothing told: %v %v", got, err)
	}
	want := state.Told{Families: map[string]state.ToldFamily{
		"4": {Address: netip.MustParseAddr("1.2.3.4"), Gateway: netip.MustParseAddr("1.2.3.1"), Bound: bound},
		"6": {Address: netip.MustParseAddr("2001:db8::1")},
	}}
	check(t, d.WriteTold("eth0", want))
	if got, err = d.ReadTold("eth0"); err != nil || !maps.Equal(got.Families, want.Families) {
		t.Errorf("got %v %v, want %v", got, err, want)
	}
	for _, text := range []string{"", "{", `{"families": {"5": {}}}`, `{"families": {"4": {"address": "::1"}}}`, `{"families": []}`, `{"families": {"4": {"bound": 7}}}`} {
		put(t, d, "told/eth0.json", text)
		got, err := d.ReadTold("eth0")
		if err == nil || !strings.Contains(err.Error(), "told/eth0.json") || got.Families == nil || len(got.Families) != 0 {
			t.Errorf("%s: got %v %v", text, got, err)
		}
	}
	for _, text := range []string{"{}", "null", `{"families": null, "more": 1}`} {
		put(t, d, "told/eth0.json", text)
		if got, err := d.ReadTold("eth0"); err != nil || got.Families == nil || len(got.Families) != 0 {
			t.Errorf("%s: got %v %v", text, got, err)
		}
	}
}
