package metrics

import (
	"encoding/base64"
	"fmt"
	"io"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/expfmt"

	"wg-multihome/cmd/internal/decide"
	"wg-multihome/fwmark"
	"wg-multihome/nft"
	"wg-multihome/wg"
)

// namespace begins each name.
const namespace = "wg_multihome"

// Snapshot is how the host is.
type Snapshot struct {
	Decision decide.Decision
	Details  []wg.Detail // of the WireGuard devices
	Astray   bool        // the kernel sends something elsewhere than it belongs
}

// Build is what the program is.
type Build struct{ Version, GoVersion string }

func describe(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(prometheus.BuildFQName(namespace, "", name), help, labels, nil)
}

// The families that every look tells.
var (
	buildInfo = describe("build_info", "Always 1; the labels say what the program is.", "version", "goversion")
	uplinkUp  = describe("uplink_up", "Whether the uplink is there and up.", "uplink")
	routed    = describe("uplink_routed", "Whether the uplink has an address with a table of its own in the family.", "uplink", "family")
	guarded   = describe("mark_guarded", "Whether the mark's guards stand in both families.", "mark")
	dropped   = describe("lock_dropped_packets_total", "Packets that the second lock has dropped, since its counter was made.", "mark")
	handshake = describe("peer_last_handshake_timestamp_seconds", "When the peer's last handshake was, in seconds since 1970; absent where there was none.", "device", "public_key")
	received  = describe("peer_receive_bytes_total", "Bytes received from the peer.", "device", "public_key")
	sent      = describe("peer_transmit_bytes_total", "Bytes sent to the peer.", "device", "public_key")
	drift     = describe("drift", "Whether the kernel is not what is wanted.")
	valid     = describe("configuration_valid", "Whether the configuration has no error.")
)

// Host tells how the host is.
type Host struct {
	Build Build
	Look  func() (Snapshot, error)
}

// Describe names the families.
func (h Host) Describe(c chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{buildInfo, uplinkUp, routed, guarded, dropped, handshake, received, sent, drift, valid} {
		c <- d
	}
}

// Collect looks, and tells.
func (h Host) Collect(c chan<- prometheus.Metric) {
	c <- gauge(buildInfo, 1, h.Build.Version, h.Build.GoVersion)
	s, err := h.Look()
	if err != nil {
		c <- prometheus.NewInvalidMetric(drift, err)
		return
	}
	d := s.Decision
	for _, u := range d.Uplinks {
		c <- gauge(uplinkUp, truth(u.Up), u.Name)
		for _, f := range fwmark.Families {
			c <- gauge(routed, truth(u.Routed(f)), u.Name, f.String())
		}
	}
	seen := map[fwmark.Mark]bool{}
	for _, p := range d.Pins {
		if seen[p.Mark] {
			continue
		}
		seen[p.Mark] = true
		c <- gauge(guarded, truth(d.Guarded(p.Mark)), p.Mark.String())
		if packets, stands := d.Table.Have.Counters[nft.LockCounter(p.Mark)]; stands {
			c <- counter(dropped, float64(packets), p.Mark.String())
		}
	}
	for _, device := range s.Details {
		for _, p := range device.Peers {
			labels := []string{device.Name, base64.StdEncoding.EncodeToString(p.Key[:])}
			if !p.Handshake.IsZero() {
				c <- gauge(handshake, float64(p.Handshake.UnixMilli())/1000, labels...)
			}
			c <- counter(received, float64(p.Received), labels...)
			c <- counter(sent, float64(p.Sent), labels...)
		}
	}
	c <- gauge(drift, truth(s.Astray || len(d.Plan()) > 0))
	c <- gauge(valid, truth(len(d.Problems) == 0))
}

func gauge(d *prometheus.Desc, value float64, labels ...string) prometheus.Metric {
	return prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
}

func counter(d *prometheus.Desc, value float64, labels ...string) prometheus.Metric {
	return prometheus.MustNewConstMetric(d, prometheus.CounterValue, value, labels...)
}

func truth(is bool) float64 {
	if is {
		return 1
	}
	return 0
}

// Write writes all that a host tells, once.
func Write(w io.Writer, h Host) error {
	r := prometheus.NewRegistry()
	if err := r.Register(h); err != nil {
		return fmt.Errorf("metrics: %w", err)
	}
	families, err := r.Gather()
	if err != nil {
		return fmt.Errorf("metrics: %w", err)
	}
	for _, family := range families {
		if _, err := expfmt.MetricFamilyToText(w, family); err != nil {
			return err
		}
	}
	return nil
}
