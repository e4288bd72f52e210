package decide

import (
	"testing"

	"wg-multihome/nft"
	"wg-multihome/policy"
)

// TestTooManyIsTooManyForTheLock: what policy sums up as too many ranges is a
// full feed to the lock.
func TestTooManyIsTooManyForTheLock(t *testing.T) {
	if policy.ManyRanges < nft.MaxRanges {
		t.Errorf("of more than %d ranges one more is told, but a full feed has %d", policy.ManyRanges, nft.MaxRanges)
	}
}
