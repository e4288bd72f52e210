package status

import (
	"encoding/json"
	"flag"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"wg-multihome/cmd/internal/screen"
)

var update = flag.Bool("update", false, "write testdata anew: read what has changed")

// example has each way in which a service stands, and what else is said of services.
func example() Status {
	return Status{
		Uplinks: []Uplink{
			{Name: "wan1", Family: 4, State: "up", Address: "192.0.2.10", Gateway: "192.0.2.1", Table: 3221225994, Leased: true},
			{Name: "wan1", Family: 6, State: "up", Address: "2001:db8:1::10", Others: []string{"2001:db8:1::11"}, Gateway: "none"},
			{Name: "wan2", Family: 4, State: "absent"},
		},
		Marks: []Mark{
			{Mark: "0x1005", Uplink: "wan1", Guarded: true, Routed4: true, Routed6: true},
			{Mark: "0x1006", Uplink: "wan1", Guarded: true, Routed6: true, astray: [2]bool{true, false}},
			{Mark: "0x2000/0xff00", Uplink: "wan2", Guarded: true, Kept: true, ForRuns: true},
		},
		Tunnels: []Tunnel{}, Notes: []string{},
		Services: []Service{
			{Cgroup: "system.slice/a.service", Uplink: "wan1", Mark: "0x1005", Exists: true, Pinned: true, Marking: "socket"},
			{Cgroup: "system.slice/b.service", Uplink: "wan1", Mark: "0x1005", Exists: true, Pinned: true, Marking: "packet"},
			{Cgroup: "system.slice/c.service", Uplink: "wan1", Mark: "0x1005", Exists: true, Pinned: true, Marking: "packet", Why: "bpf(2) is not permitted: operation not permitted"},
			{Cgroup: "system.slice/d.service", Uplink: "wan1", Mark: "0x1005", Exists: true, Pinned: true, Marking: "socket", First: []string{"theirs (id 7)"}},
			{Cgroup: "system.slice/e.service", Uplink: "wan1", Mark: "0x1005", Exists: true, Marking: "socket"},
			{Cgroup: "system.slice/f.service", Uplink: "wan2", Mark: "0x2000/0xff00"},
		},
		Locks:   []Lock{{Mark: "0x1005", Dropped: 3, Cause: "sent with a source of another uplink"}, {Mark: "0x2000/0xff00"}},
		Detours: []string{}, Routing: []string{}, Held: []string{}, Outside: []string{},
		Elements: []string{"mark_0x1005: system.slice/g.service, id 4711"}, EmptySets: []string{"mark_0x2000"}, OtherMarks: 5,
		Fronts: []string{}, Served: []string{}, Unasked: []string{}, Lacks: []string{}, Config: []string{}, Problems: []string{}, Errors: []string{},
		Drift: []string{"+ socket-mark system.slice/e.service 0x1005"}, Astray: []string{},
	}
}

// TestGolden shows a status as people and as monitoring get it. The JSON's names and
// forms are a contract.
func TestGolden(t *testing.T) {
	var text strings.Builder
	if err := example().Write(&text, screen.Screen{}); err != nil {
		t.Fatal(err)
	}
	asJSON, err := json.MarshalIndent(example(), "", "\t")
	if err != nil {
		t.Fatal(err)
	}
	for path, got := range map[string]string{"testdata/status.txt": text.String(), "testdata/status.json": string(asJSON) + "\n"} {
		if *update {
			if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), got); diff != "" {
			t.Errorf("%s: wanted (-), got (+):\n%s", path, diff)
		}
	}
}
