package host

import "wg-multihome/policy"

// Ask returns what the kernel answers to questions, one answer for each.
func (h *Host) Ask(questions []policy.Question) ([]policy.Answer, error) {
	if len(questions) == 0 {
		return nil, nil
	}
	packets := make([]policy.Packet, len(questions))
	for i := range questions {
		packets[i] = questions[i].Packet
	}
	return h.Kernel.Ask(packets)
}
