package fwmark

// Where the configuration does not say.
const (
	DefaultPriority = 32752 // where our rules start
	DefaultGroup    = 77    // the link group of uplinks
)
