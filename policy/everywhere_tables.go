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
	answers map[Rule]bool
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
	if t.answers == nil {
		t.byTable, t.feeds, t.answers = indexOf(t.facts.Routes, (*Route).tableKey), map[tableKey][]*Feed{}, map[Rule]bool{}
		for _, feed := range t.facts.Feeds {
			t.feeds[feed.tableKey()] = append(t.feeds[feed.tableKey()], feed)
		}
	}
	same := Rule{Family: r.Family, Table: r.Table, Suppresses: r.Suppresses, Suppress: r.Suppress}
	answer, known := t.answers[same]
	if !known {
		answer = t.covered(r, k)
		t.answers[same] = answer
	}
	return answer
}

func (t *tablesEverywhere) covered(r *Rule, k tableKey) bool {
	var c coverage
	for i := range t.byTable.places(k) {
		route := &t.facts.Routes[i]
		if route.Type == Unicast && !(r.Suppresses && route.Dst.Bits() <= int(r.Suppress)) {
			c.add(route.Dst)
		}
	}
	for _, feed := range t.feeds[k] {
		// Which of its routes the rule suppresses is not known. They are longer than
		// shortBits, and no rule of use suppresses so much.
		c.addAll(&feed.coverage)
	}
	return c.everywhere()
}
