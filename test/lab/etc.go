package lab

// DefaultTOML is where the program looks for its configuration file when
// nobody names one. PrivateEtc comes first.
const DefaultTOML = "/etc/wg-multihome.toml"

// PrivateEtc gives the host a folder /etc of its own, with all that is in the
// machine's, so that files can come and go there.
func (l *Lab) PrivateEtc() {
	l.t.Helper()
	// Links that are relative mean the same from outside, below /proc/PID/root.
	l.Script(`mkdir /run/etc /run/etc.machine
mount --rbind /etc /run/etc.machine
ls /run/etc.machine | sed 's,^,../run/etc.machine/,' | xargs -d '\n' ln -s -t /run/etc
rm -f /run/etc/wg-multihome.toml
mount --bind /run/etc /etc`)
}
