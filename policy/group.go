package policy

// LinkGroup is a link with its group.
type LinkGroup struct {
	Device string
	Group  uint32
}

// String returns the text form, "link wan1 group 77".
func (l LinkGroup) String() string { return string(l.appendText(make([]byte, 0, textSize))) }

func (l *LinkGroup) appendText(b []byte) []byte {
	b = appendWord(append(b, "link"...), l.Device)
	return appendNumber(appendWord(b, "group"), l.Group)
}

