package kernel

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"wg-multihome/policy"
)

// TestNexthopObjects reads routes that share nexthop objects, also where the
// kernel says no more of them than the objects' numbers.
func TestNexthopObjects(t *testing.T) {
	for _, mode := range []string{"1", "0"} {
		t.Run("nexthop_compat_mode "+mode, func(t *testing.T) {
			c := namespace(t)
			build(t, c)
			out, err := exec.Command("ip", "-batch", "testdata/nexthops").CombinedOutput()
			if err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			must(t, os.WriteFile("/proc/sys/net/ipv4/nexthop_compat_mode", []byte(mode), 0o644))
			f, err := c.Facts()
			must(t, err)
			var got []string
			for _, r := range f.Routes {
				if r.Table == policy.TableMain && r.Protocol == 3 {
					got = append(got, strings.TrimSuffix(strings.TrimPrefix(r.String(), "route "), " dev lo"))
				}
			}
			slices.Sort(got)
			want := []string{
				"4 main 10.0.0.0/8 via 192.0.2.1 dev dm0 onlink", "4 main 10.0.0.0/8 via 198.51.100.1 dev dm1 onlink",
				"4 main 172.16.0.0/12 dev dm1", "4 main default via 192.0.2.1 dev dm0 onlink",
				"4 main type-6 192.168.0.0/16", "6 main default via fe80::6 dev dm0",
			}
			if !slices.Equal(got, want) {
				t.Errorf("routes\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
			}
		})
	}
}
