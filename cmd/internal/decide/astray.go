package decide

import "wg-multihome/policy"

// Questions are what the kernel is to be asked of packets of each mark and each
// address of an uplink, of so many addresses each at most (0: of all): it goes by
// more than is known here.
func (d Decision) Questions(most int) []policy.Question {
	if d.scope != whole {
		return nil
	}
	return d.Rules.Questions(d.Facts, d.placed(), most)
}

// Astray names the packets that the kernel does not send where they belong, by its
// answers to questions. Without answers there is nothing to say.
func (d Decision) Astray(questions []policy.Question, answers []policy.Answer) []string {
	var list []string
	for i, q := range questions {
		if i >= len(answers) {
			break
		}
		if text := d.Rules.Astray(d.Facts, q, answers[i]); text != "" {
			list = append(list, text)
		}
	}
	return list
}
