package nft

import "slices"

// Standing returns what stands of a wanted ruleset, with the elements that its sets
// have now, and the names of those of its chains that stand otherwise or not at
// all. What others have added is in none of them.
func (s State) Standing(want Ruleset) (stands Ruleset, missing []string) {
	for _, c := range want.Chains {
		now, there := s.Chains[c.Name]
		same := func(f string, r Rule) bool { return f == r.Fingerprint() }
		if !there || s.Dormant || now.Base != c.Base || !slices.EqualFunc(now.Fingerprints, c.Rules, same) {
			missing = append(missing, c.Name)
			continue
		}
		stands.Chains = append(stands.Chains, c)
	}
	for _, set := range want.Sets {
		if now, there := s.Sets[set.Name]; there {
			stands.Sets = append(stands.Sets, now)
		}
	}
	stands.Counters = want.Counters
	return stands, missing
}
