package main

import (
	"maps"
	"slices"

	"wg-multihome/cmd/internal/decide"
	"wg-multihome/cmd/internal/state"
)

// pending returns what is to be told by a decision, and the devices that are noted
// as due. What cannot be read of either, whoever tells says.
func pending(dir state.Dir, d decide.Decision) (news []decide.News, due []string) {
	news = d.News(func(uplink string) state.Told {
		told, _ := dir.ReadTold(uplink)
		return told
	})
	notes, _ := dir.Due()
	return news, slices.Sorted(maps.Keys(notes))
}
