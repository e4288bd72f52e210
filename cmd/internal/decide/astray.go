package decide

import "wg-multihome/policy"

// Questions are what the kernel is to be asked of packets of each mark and each
// address of an uplink: it goes by more than is known here.
func (d Decision) Questions() []policy.Question {
	if d.scope != whole {
		return nil
	}
	return d.Rules.Questions(d.Facts, d.placed())
}

// Astray names the packets that the kernel does not send where they belong.
// answers are those to Questions; without answers there is nothing to say.
func (d Decision) Astray(answers []policy.Answer) []string {
	var list []string
	for i, q := range d.Questions() {
		if i >= len(answers) {
			break
		}
		if text := d.Rules.Astray(d.Facts, q, answers[i]); text != "" {
			list = append(list, text)
		}
	}
	return list
}
