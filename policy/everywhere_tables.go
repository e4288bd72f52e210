package policy

// What leads everywhere of what was observed: devices in main, and tables.

// EverywhereInMain returns, by family, the devices that lead everywhere by what
// main has through them.
func EverywhereInMain(f Facts) [2]map[string]bool {
	leading := devicesEverywhere(f, func(k tableKey) bool { return k.table == TableMain })
	var devices [2]map[string]bool
	for family := range devices {
		devices[family] = map[string]bool{}
	}
	for k := range leading {
		devices[k.family][k.device] = true
	}
	return devices
}

// devicesEverywhere returns the devices that lead everywhere by what others have
// through them in one of the tables. Unicast routes count alone, here and below: an
// unreachable default loses packets and leads nowhere.
func devicesEverywhere(f Facts, of func(tableKey) bool) map[feedKey]bool {
	by := map[feedKey]*coverage{}
	at := func(k feedKey) *coverage {
		if by[k] == nil {
			by[k] = &coverage{}
		}
		return by[k]
	}
	for i := range f.Routes {
		if r := &f.Routes[i]; r.Type == Unicast && r.Device != "" && !r.Ours() && of(r.tableKey()) {
			at(feedKey{r.Family, r.Table, r.Device}).add(r.Dst)
		}
	}
	for _, feed := range f.Feeds {
		if feed.Device != "" && of(feed.tableKey()) {
			at(feedKey{feed.Family, feed.Table, feed.Device}).addAll(&feed.coverage)
		}
	}
	leading := map[feedKey]bool{}
	for k, c := range by {
		if c.everywhere() {
			leading[k] = true
		}
	}
	return leading
}

// tablesEverywhere answers whether rules lead everywhere by their tables. It
// looks through all routes when it is asked first: mostly nobody asks.
type tablesEverywhere struct {
	facts   Facts
	wanted  map[tableKey]bool // tables that are to have a default of ours
	byTable index[tableKey]   // of the facts' routes
	feeds   map[tableKey][]*Feed
	answers map[tableQuestion]bool
}

// lead reports whether the table of a rule leads everywhere by routes that the
// rule does not suppress.
func (t *tablesEverywhere) lead(r *Rule) bool {
	if r.Table == 0 { // l3mdev: the table is the device's, and not known here
		return true
	}
	k := tableKey{r.Family, r.Table}
	if t.wanted[k] && !r.Suppresses {
		return true
	}
	return t.covered(r, false)
}

// leadByOthers is lead by routes of others alone: those of ours go where the rule
// is left to serve its sources.
func (t *tablesEverywhere) leadByOthers(r *Rule) bool { return t.covered(r, true) }

// tableQuestion is what the answer for a rule depends on.
type tableQuestion struct {
	tableKey
	suppresses bool
	suppress   uint32
	byOthers   bool
}

func (t *tablesEverywhere) covered(r *Rule, byOthers bool) bool {
	if t.answers == nil {
		t.byTable, t.feeds, t.answers = indexOf(t.facts.Routes, (*Route).tableKey), map[tableKey][]*Feed{}, map[tableQuestion]bool{}
		for _, feed := range t.facts.Feeds {
			t.feeds[feed.tableKey()] = append(t.feeds[feed.tableKey()], feed)
		}
	}
	q := tableQuestion{tableKey{r.Family, r.Table}, r.Suppresses, r.Suppress, byOthers}
	answer, known := t.answers[q]
	if !known {
		answer = t.ask(q)
		t.answers[q] = answer
	}
	return answer
}

func (t *tablesEverywhere) ask(q tableQuestion) bool {
	var c coverage
	for i := range t.byTable.places(q.tableKey) {
		r := &t.facts.Routes[i]
		if r.Type == Unicast && !(q.suppresses && r.Dst.Bits() <= int(q.suppress)) && !(q.byOthers && r.Ours()) {
			c.add(r.Dst)
		}
	}
	for _, feed := range t.feeds[q.tableKey] {
		// Which of its routes the rule suppresses is not known. They are longer than
		// shortBits, and no rule of use suppresses so much.
		c.addAll(&feed.coverage)
	}
	return c.everywhere()
}
