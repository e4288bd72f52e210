package e2e

import (
	"testing"

	"wg-multihome/test/lab"
)

// TestRunningConnectionsSurvive has TCP connections of the service in both
// directions and families, over the first load of the marking chain and over
// `nft flush ruleset`. They began on the first uplink, and stay there.
func TestRunningConnectionsSurvive(t *testing.T) {
	l := newLab(t)
	l.Static()
	service := pinnedService(t, l)
	chats := map[string]*lab.Chat{}
	for _, addr := range []string{lab.Far4, lab.Far6} {
		l.ChatServer(l.Far, "", addr)
		chats["to "+addr] = l.Chat(l.Namespace, service, addr)
	}
	for _, addr := range []string{one4, one6} {
		l.ChatServer(l.Namespace, service, addr)
		chats["from far to "+addr] = l.Chat(l.Far, "", addr)
	}
	hold := func(when string) {
		t.Helper()
		for name, c := range chats {
			if got := c.Say(when); got != when {
				t.Errorf("%s: connection %s: %q", when, name, got)
			}
		}
	}
	hold("before")
	l.MustMH("sync")
	hold("after the first load")
	wantService(t, l, service, lab.Far4, two4)
	l.Run("nft", "flush", "ruleset")
	hold("without a table")
	l.MustMH("sync")
	hold("after another load")
	// New ones are pinned, and survive as well.
	chats["pinned"] = l.Chat(l.Namespace, service, lab.Far4)
	hold("with a pinned one")
	l.Run("nft", "delete", "table", "inet", "wg_multihome")
	l.MustMH("sync")
	hold("after a third load")
	noSpoof(t, l)
}
