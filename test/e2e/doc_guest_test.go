//go:build guest

// The tests under the tag guest are for the virtual machine that test/vm/run
// boots, with Debian's kernel: TestGuest… take its WireGuard and its VLANs,
// TestSystemd… take systemd as PID 1. Other tests run there, too: TestTunnel…
// take the kernel's WireGuard there, and wireguard-go elsewhere. ./test/run runs
// all of them; one by hand:
//
//	CGO_ENABLED=0 go build -o /tmp/wg-multihome ./cmd/wg-multihome
//	go test -c -tags guest -o /tmp/guest.test ./test/e2e
//	test/vm/run env WG_MULTIHOME_BINARY=/tmp/wg-multihome /tmp/guest.test -test.v -test.run TestGuestSeed
//
// with `test/vm/run --systemd` for the latter. TestReboot… take `--systemd --disk`, and
// start anew with each boot.
package e2e
