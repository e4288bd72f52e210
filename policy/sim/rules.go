package sim

import (
	"slices"
	"syscall"

	"wg-multihome/policy"
)

// AddRule is RTM_NEWRULE with NLM_F_CREATE|NLM_F_EXCL. Within one priority
// new rules are appended. Table 0, for which IPv4 picks an empty table, is not
// modelled but refused.
func (k *Kernel) AddRule(r policy.Rule) syscall.Errno {
	switch {
	case r.Action == policy.Lookup && r.Table == 0,
		r.Action == policy.Goto && r.Table <= r.Priority: // backward goto
		return syscall.EINVAL
	}
	rules := k.rules[r.Family]
	if slices.ContainsFunc(rules, func(o policy.Rule) bool { return exists(o, r) }) {
		return syscall.EEXIST
	}
	at := slices.IndexFunc(rules, func(o policy.Rule) bool { return o.Priority > r.Priority })
	if at < 0 {
		at = len(rules)
	}
	k.rules[r.Family] = slices.Insert(rules, at, r)
	return Done
}

// exists is rule_exists of net/core/fib_rules.c: adding r beside o is EEXIST.
// `not` is not compared, and where r has no source or destination any of o's
// will do.
func exists(o, r policy.Rule) bool {
	return o.Action == r.Action && o.Table == r.Table && o.Priority == r.Priority && o.Iif == r.Iif && o.Oif == r.Oif &&
		o.Mark == r.Mark && o.Suppresses == r.Suppresses && o.Suppress == r.Suppress &&
		o.SuppressesGroup == r.SuppressesGroup && o.SuppressGroup == r.SuppressGroup && o.Protocol == r.Protocol &&
		o.Opaque == r.Opaque && sameEnds(o, r)
}

// DeleteRule is RTM_DELRULE: the first rule that r describes goes, and is
// returned. Fields that r does not have are wildcards, zero marks and
// protocols too, and `not` is never looked at; a priority is always given.
func (k *Kernel) DeleteRule(r policy.Rule) (policy.Rule, syscall.Errno) {
	rules := k.rules[r.Family]
	at := slices.IndexFunc(rules, func(o policy.Rule) bool { return describes(r, o) })
	if at < 0 {
		return policy.Rule{}, syscall.ENOENT
	}
	gone := rules[at]
	k.rules[r.Family] = slices.Delete(rules, at, at+1)
	return gone, Done
}

// describes is rule_find of net/core/fib_rules.c. The target of a goto is no
// part of it.
func describes(r, o policy.Rule) bool {
	switch {
	case r.Action != 0 && o.Action != r.Action,
		r.Action != policy.Goto && r.Table != 0 && o.Table != r.Table,
		o.Priority != r.Priority,
		r.Iif != "" && o.Iif != r.Iif,
		r.Oif != "" && o.Oif != r.Oif,
		r.Mark.Value != 0 && o.Mark.Value != r.Mark.Value,
		r.Mark.Mask != 0 && o.Mark.Mask != r.Mark.Mask,
		r.Suppresses && (!o.Suppresses || o.Suppress != r.Suppress),
		r.SuppressesGroup && (!o.SuppressesGroup || o.SuppressGroup != r.SuppressGroup),
		r.Protocol != 0 && o.Protocol != r.Protocol:
		return false
	}
	return sameEnds(o, r)
}

// sameEnds is fib4_rule_compare and fib6_rule_compare.
func sameEnds(o, r policy.Rule) bool {
	return (!r.From.IsValid() || o.From == r.From) && (!r.To.IsValid() || o.To == r.To)
}
