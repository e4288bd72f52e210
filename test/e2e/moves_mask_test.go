package e2e

import (
	"testing"

	"wg-multihome/test/lab"
)

// maskCourses are changes of a mask alone.
var maskCourses = map[string]tunnelCourse{
	"a mask comes and goes": {2, []string{lab.Far4}, []edit{
		{up(1, "0x100") + up(2, "0x200", wg0), oneTunnel},
		{up(1, "0x100") + up(2, `"0x200/0xff00"`, wg0), oneTunnel},
	}},
	"it becomes another one": {2, []string{lab.Far4, "[" + lab.Far6 + "]"}, []edit{
		{up(1, `"0x100/0x300"`, wg1) + up(2, `"0x200/0xff00"`, wg0), bothTunnels},
		{up(1, `"0x100/0xf00"`, wg1) + up(2, `"0x200/0xfff"`, wg0), bothTunnels},
	}},
}

// TestMovesOfMasks changes the mask alone, under the same traffic: the number
// is never taken off the device.
func TestMovesOfMasks(t *testing.T) { goThroughAll(t, maskCourses) }
