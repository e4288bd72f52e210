package wg

import (
	"context"
	"encoding/hex"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.zx2c4.com/wireguard/device"
)

// crowd gives a device n peers, each with a key, a preshared key, an endpoint,
// allowed IPs and a keepalive of its own.
func crowd(t *testing.T, dev *device.Device, n int) []Key {
	t.Helper()
	var config strings.Builder
	keys := make([]Key, n)
	for i := range keys {
		keys[i] = Key{31: 0x10, 0: byte(i), 1: 1}
		fmt.Fprintf(&config, "public_key=%s\npreshared_key=%s\nendpoint=127.0.0.1:9\npersistent_keepalive_interval=%d\nallowed_ip=10.%d.0.0/16\nallowed_ip=fd00:%x::/32\n",
			hex.EncodeToString(keys[i][:]), secret, 100+i, i, i+1)
	}
	if err := dev.IpcSet(config.String()); err != nil {
		t.Fatal(err)
	}
	return keys
}

var changing = regexp.MustCompile(`(?m)^(tx_bytes|rx_bytes|last_handshake_time_n?sec|listen_port)=.*\n`)

// settings is all that a device is configured to, one peer after the other.
func settings(t *testing.T, dev *device.Device) string {
	t.Helper()
	text, err := dev.IpcGet()
	if err != nil {
		t.Fatal(err)
	}
	peers := strings.Split(changing.ReplaceAllString(text, ""), "public_key=")
	slices.Sort(peers[1:])
	return strings.Join(peers, "public_key=")
}

// TestKicksKeepEverything kicks a hundred peers while another reads: no
// keepalive is ever off, and in the end all is as it was.
func TestKicksKeepEverything(t *testing.T) {
	name := nameFor(10)
	dev := run(t, name)
	keys := crowd(t, dev, 100)
	before := settings(t, dev)
	c := open(t)
	ctx, stop := context.WithCancel(context.Background())
	read := make(chan int)
	go func() {
		reads, reader := 0, open(t)
		for ; ctx.Err() == nil; reads++ {
			details, _ := reader.Inspect(context.Background(), []string{name})
			for _, d := range details {
				for _, p := range d.Peers {
					if p.Keepalive == 0 {
						t.Errorf("peer %s has no keepalive in between", p.Key)
					}
				}
			}
		}
		read <- reads
	}()
	var changes []Change
	for i, k := range keys {
		changes = append(changes, Change{Device: name, Kind: Kick, Peer: k, Keepalive: uint16(100 + i)})
	}
	for range 5 {
		if errs := c.ApplyAll(context.Background(), name, changes); errs != nil {
			t.Error(errs)
		}
	}
	stop()
	if <-read == 0 {
		t.Error("nothing was read meanwhile")
	}
	if after := settings(t, dev); after != before {
		t.Errorf("the device was\n%s\nand is\n%s", before, after)
	}
}

func TestPeersAreNeitherAddedNorRevived(t *testing.T) {
	name := nameFor(11)
	dev := run(t, name)
	crowd(t, dev, 2)
	before := settings(t, dev)
	gone := Key{1, 2, 3}
	endpoint := netip.MustParseAddrPort("[2001:db8::1]:7")
	errs := open(t).ApplyAll(context.Background(), name, []Change{
		{Device: name, Kind: Kick, Peer: gone, Keepalive: 25}, {Device: name, Kind: SetEndpoint, Peer: gone, Endpoint: endpoint},
	})
	if after := settings(t, dev); errs != nil || after != before {
		t.Errorf("%v; the device was\n%s\nand is\n%s", errs, before, after)
	}
}

func TestEndpointAndPort(t *testing.T) {
	name := nameFor(12)
	dev := run(t, name)
	keys := crowd(t, dev, 2)
	c := open(t)
	ctx := context.Background()
	details, errs := c.Inspect(ctx, []string{name})
	if errs != nil || len(details) != 1 || len(details[0].Peers) != 2 {
		t.Fatal(details, errs)
	}
	before := settings(t, dev)
	endpoint := netip.MustParseAddrPort("[2001:db8::1]:7")
	errs = c.ApplyAll(ctx, name, []Change{{Device: name, Kind: RotatePort}, {Device: name, Kind: SetEndpoint, Peer: keys[1], Endpoint: endpoint}})
	if errs != nil {
		t.Fatal(errs)
	}
	i := strings.LastIndex(before, "endpoint=127.0.0.1:9")
	if after, want := settings(t, dev), before[:i]+strings.Replace(before[i:], "127.0.0.1:9", endpoint.String(), 1); after != want {
		t.Errorf("got\n%s\nwant\n%s", after, want)
	}
	for what, get := range map[string]func() (Detail, error){
		"by wgctrl": func() (Detail, error) { d, _, err := c.get(name); return d, err },
		"by socket": func() (Detail, error) { return uapi.get(name) },
	} {
		d, err := get()
		if err != nil {
			t.Fatal(err)
		}
		slices.SortFunc(d.Peers, func(a, b Peer) int { return int(a.Keepalive) - int(b.Keepalive) })
		for i := range d.Peers {
			d.Peers[i].Sent = 0
		}
		want := []Peer{
			{Key: keys[0], Endpoint: netip.MustParseAddrPort("127.0.0.1:9"), Keepalive: 100}, {Key: keys[1], Endpoint: endpoint, Keepalive: 101},
		}
		if !slices.Equal(d.Peers, want) || d.Name != name {
			t.Errorf("%s: got %+v, want %+v", what, d, want)
		}
	}
}

// TestSilentDeviceIsLeft bounds what a device without an answer costs, with
// many changes too.
func TestSilentDeviceIsLeft(t *testing.T) {
	name := nameFor(13)
	listen(t, name)
	changes := slices.Repeat([]Change{{Device: name, Mark: 7}}, 50)
	begun := time.Now()
	errs := open(t).ApplyAll(context.Background(), name, changes)
	if took := time.Since(begun); took > 2*callTime || len(errs) != 1 {
		t.Errorf("it took %v: %v", took, errs)
	}
}

func TestLookUp(t *testing.T) {
	byName := map[string]Answer{}
	for a := range LookUp(context.Background(), []string{"localhost", "203.0.113.1"}, [2]bool{true, false}) {
		byName[a.Name] = a
	}
	for name, want := range map[string]string{"localhost": "127.0.0.1", "203.0.113.1": "203.0.113.1"} {
		if a := byName[name]; a.Errs != [2]error{} || !slices.Contains(a.Addrs, netip.MustParseAddr(want)) {
			t.Errorf("%s: %v", name, a)
		}
	}
	ended, cancel := context.WithTimeout(context.Background(), 0)
	defer cancel()
	for a := range LookUp(ended, []string{"name.invalid"}, [2]bool{true, true}) {
		if a.Errs[0] == nil || a.Errs[1] == nil {
			t.Errorf("after the end: %v", a)
		}
	}
}
