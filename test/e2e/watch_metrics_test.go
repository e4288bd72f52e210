package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"

	"wg-multihome/test/lab"
)

// scraped asks a socket of the host for metrics.
func scraped(t *testing.T, l *lab.Lab, socket string) string {
	t.Helper()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", l.Path(socket))
	}}}
	r, err := client.Get("http://watch/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	text, err := io.ReadAll(r.Body)
	if err != nil || r.StatusCode != http.StatusOK {
		t.Fatalf("%s: %v\n%s", r.Status, err, text)
	}
	return string(text)
}

// metricFamilies reads metrics, which must be as Prometheus wants them.
func metricFamilies(t *testing.T, text string) map[string]*dto.MetricFamily {
	t.Helper()
	problems, err := promlint.New(strings.NewReader(text)).Lint()
	if err != nil || len(problems) > 0 {
		t.Errorf("promlint: %v, %v", problems, err)
	}
	var p expfmt.TextParser
	found, err := p.TextToMetricFamilies(strings.NewReader(text))
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return found
}

// TestMetrics: what watch serves, and what status says once.
func TestMetrics(t *testing.T) {
	l := newLab(t)
	l.Static()
	hostConfig, farConfig := peers(t)
	l.Tunnel(l.Far, "wg0", farConfig)
	host := l.Tunnel(l.Namespace, "wg0", hostConfig)
	l.Script("ip addr add 10.200.0.1/24 dev wg0; ip link set wg0 up")
	config := l.TOML("[uplink.up2]\nfwmark = 0x2005\nwireguard = [\"wg0\"]\n")
	const socket = "/run/metrics.sock"
	w := l.Watch("--config", config, "--metrics", "unix:"+socket)
	lab.Until(t, "a handshake", func() bool { return host.Get("last_handshake_time_sec") > "0" })
	l.Script("ip rule del fwmark 0x2005 unreachable")
	text := ""
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("metrics:\n%s", text)
		}
	})
	lab.Until(t, "it is mended, and counted", func() bool {
		text = scraped(t, l, socket)
		return strings.Contains(text, `wg_multihome_mended_total{by="deleted",kind="rule"} 1`)
	})
	for _, line := range []string{
		`wg_multihome_uplink_up{uplink="up2"} 1`, `wg_multihome_uplink_routed{family="6",uplink="up2"} 1`, `wg_multihome_mark_guarded{mark="0x2005"} 1`,
		`wg_multihome_lock_dropped_packets_total{mark="0x2005"} `, `wg_multihome_convergences_total{cause="start"} 1`, `wg_multihome_netlink_overruns_total 0`,
		`wg_multihome_interval_mends_total 0`, `wg_multihome_drift 0`, `wg_multihome_configuration_valid 1`, `wg_multihome_peer_last_handshake_timestamp_seconds{device="wg0",public_key="`,
		`wg_multihome_peer_receive_bytes_total{`, `wg_multihome_peer_transmit_bytes_total{`, `wg_multihome_build_info{goversion="go`,
	} {
		wantPart(t, "metrics", text, line)
	}
	served, once := metricFamilies(t, text), metricFamilies(t, l.MustMH("status", "--metrics", "--config", config).Stdout)
	counted := []string{"convergences_total", "mended_total", "convergence_seconds", "netlink_overruns_total", "interval_mends_total"}
	for name := range served {
		if _, also := once[name]; also == slices.Contains(counted, strings.TrimPrefix(name, "wg_multihome_")) {
			t.Errorf("%s: status --metrics has it: %t", name, also)
		}
	}
	if len(served) != 15 || len(once) != 10 {
		t.Errorf("%d families are served, and status has %d", len(served), len(once))
	}
	info, err := os.Stat(l.Path(socket))
	if err != nil || info.Mode().Perm() != 0o660 {
		t.Errorf("the socket: %v, %v", info, err)
	}
	private, _, _ := strings.Cut(strings.TrimPrefix(hostConfig, "private_key="), "\n")
	wantNone(t, "metrics", text, private)
	w.Signal(syscall.SIGKILL)
	w.Wait()
	r := l.MH("watch", "--config", config, "--metrics", "nonsense")
	wantCode(t, r, 2)
	l.Script(": >/run/file")
	wantCode(t, l.MH("watch", "--config", config, "--metrics", "unix:/run/file"), 1)
	wantCode(t, l.MH("watch", "--config", config, "--metrics", "198.51.100.200:99"), 1)
	l.Watch("--config", config, "--metrics", "unix:"+socket) // the killed one has left it
	wantPart(t, "metrics", scraped(t, l, socket), "wg_multihome_drift 0")
}

// TestStatusFollow: the state, and then an object for each change, without watch.
func TestStatusFollow(t *testing.T) {
	l := newLab(t)
	l.Static()
	config := l.TOML("[uplink.up2]\nfwmark = 0x2005\n")
	l.MustMH("sync", "--config", config)
	cmd := l.Command(context.Background(), nil, l.Binary, "status", "--follow", "--json", "--config", config)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	lines := make(chan string, 100)
	go func() {
		defer close(lines)
		for s := bufio.NewScanner(out); s.Scan(); {
			lines <- s.Text()
		}
	}()
	type object struct {
		Version int    `json:"version"`
		What    string `json:"what"`
		Name    string `json:"name"`
		Came    bool   `json:"came"`
		Went    bool   `json:"went"`
		Marks   []any  `json:"marks"`
	}
	schema := "status" // of the first line
	next := func() (o object) {
		t.Helper()
		line := ""
		lab.Until(t, "a line", func() bool {
			select {
			case line = <-lines:
				return true
			default:
				return false
			}
		})
		wantValid(t, schema, line)
		schema = "follow"
		if err := json.Unmarshal([]byte(line), &o); err != nil || o.Version != 1 {
			t.Fatalf("%v: %s", err, line)
		}
		return o
	}
	if first := next(); len(first.Marks) != 1 {
		t.Errorf("the state: %+v", first)
	}
	until := func(what string, is func(object) bool) {
		t.Helper()
		for range 20 {
			if is(next()) {
				return
			}
		}
		t.Errorf("no change in 20 says: %s", what)
	}
	l.Script("ip rule del fwmark 0x2005 unreachable")
	until("there is drift", func(o object) bool { return o.What == "drift" && o.Came && strings.Contains(o.Name, "unreachable") })
	l.MustMH("sync", "--config", config)
	until("there is none", func(o object) bool { return o.What == "drift" && o.Went && strings.Contains(o.Name, "unreachable") })
	// A try that changes nothing in the kernel is one, too.
	l.Script("sed -i '$a# another' " + config) // which has no moment without a file
	l.MustMH("sync", "--try", "5m", "--config", config)
	until("a try is pending", func(o object) bool { return o.What == "try" && o.Came && strings.Contains(o.Name, "undone at ") })
	l.MustMH("confirm")
	until("it is no more", func(o object) bool { return o.What == "try" && o.Went })
	l.Script("sed -i '$a# a third' " + config)
	l.MustMH("sync", "--try", "1s", "--config", config)
	until("it is pending", func(o object) bool { return o.What == "try" && o.Came })
	until("its time is over", func(o object) bool { return o.What == "try" && o.Went })
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("it was interrupted: %v", err)
	}
}
