package wg

import (
	"math"

	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"
)

// deaf is a kernel device that takes every mark and keeps its own, 0x80000001,
// as wgctrl gives it on machines of this word size.
type deaf struct{}

func (deaf) Device(name string) (*wgtypes.Device, error) {
	mark := uint32(math.MaxInt32 + 2)
	return &wgtypes.Device{Name: name, Type: wgtypes.LinuxKernel, FirewallMark: int(mark)}, nil
}

func (deaf) ConfigureDevice(string, wgtypes.Config) error { return nil }

func (deaf) Close() error { return nil }
