package nft

import "wg-multihome/fwmark"

// What names of chains and maps of those who ask by UDP begin with: the chain of a
// mark's answers, and of an uplink the chain that sees who asks, the one that notes it,
// and the map.
const (
	answerPrefix = "answer_"
	askingPrefix = "asking_"
	askedPrefix  = "asked"
)

// A UDP server whose socket is bound to no address answers with whatever source its
// route has. That is mostly another uplink's, so to conntrack the answer is a
// connection of its own. It would be pinned and translated, and to another port, as
// the uplink's address and the server's port are those of the connection that asked.
// So it is noted who asks such a server by its uplink, and at which address; and
// what is sent to whom is noted gets that address for its source before the
// kernel looks for its route once more. No connection is translated then.

// answersAskers reports whether a pin's answers by UDP are told from its questions.
func (w *wanter) answersAskers(p fwmark.Pin) bool { return p.Uplink != "" }

func askedMap(f fwmark.Family, uplink string) string {
	return setName(askedPrefix+f.String()+"_", uplink)
}

// askers makes the chains of answers and of those who ask. Who asks is noted by the
// first packet of a connection, and again by each answer.
func (w *wanter) askers(pins []fwmark.Pin) {
	for _, p := range w.keeping {
		if !w.answersAskers(p) {
			continue
		}
		var rules []Rule
		for _, f := range fwmark.Families {
			rules = append(rules, Rule{{Kind: UDP}, {Kind: AnswerAsker, Family: f, Name: askedMap(f, p.Uplink)}})
		}
		w.chain(byMark(answerPrefix, p.Mark), Base{}, rules...)
	}
	levels := w.levels(pins)
	for _, uplink := range w.keepingUplinks() {
		note := setName(askedPrefix+"_", uplink)
		var noted []Rule
		for _, f := range fwmark.Families {
			name := askedMap(f, uplink)
			w.set(Set{Name: name, Type: Askers, Family: f, Public: true})
			noted = append(noted, Rule{{Kind: NoteAsker, Family: f, Name: name}})
		}
		rules := []Rule{{{Kind: Confirmed}, {Kind: Accept}}, {{Kind: Bound}, {Kind: Accept}}}
		for _, p := range pins {
			for level := levels; level > 0 && p.Uplink == uplink; level-- {
				for _, set := range []string{MarkSet(p.Mark), PathsSet(p.Mark)} {
					rules = append(rules, Rule{{Kind: InCgroup, Level: level, Name: set}, {Kind: Goto, Name: note}})
				}
			}
		}
		w.chain(setName(askingPrefix, uplink), Base{}, rules...)
		w.chain(note, Base{}, noted...)
	}
}
