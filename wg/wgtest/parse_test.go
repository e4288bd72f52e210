package wgtest

import "testing"

// TestParseChangeRefuses what String never writes; what it writes is tested with
// it.
func TestParseChangeRefuses(t *testing.T) {
	for _, s := range []string{
		"", "= wg wg0 fwmark", "= wg wg0 fwmark ", "= wg  fwmark off", "= wg wg0 fwmark 0", "= wg wg0 fwmark 0x0", "= wg wg0 fwmark 8197",
		"= wg wg0 fwmark 0x100000000", "= wg wg0 fwmark 0x2_005", "= wg wg0 fwmark -1", "+ wg wg0 fwmark off", "= wg wg0 fwmark off\n", " = wg wg0 fwmark off",
		"= wg wg0 listen-port 1", "= wg wg0 listen-port 0 0", "= wg wg0 peer AQIDBAUG", "= wg wg0 peer AQIDBAUG endpoint", "= wg wg0 peer AQIDBAUG endpoint x:1",
		"= wg wg0 peer AQIDBAU endpoint 192.0.2.1:1", "= wg wg0 peer AQIDBAUG persistent-keepalive 0 0", "= wg wg0 peer AQIDBAUG persistent-keepalive 0 65536",
		"= wg wg0 peer AQIDBAUG persistent-keepalive 1 25", "= wg wg0 peer AQIDBAUG persistent-keepalive 25", "= wg wg0 peer AQIDBAUG endpoint 192.0.2.1:01",
	} {
		if c, err := ParseChange(s); err == nil {
			t.Errorf("%q is read as %v", s, c)
		}
	}
}

func FuzzParseChange(f *testing.F) {
	f.Add("= wg wg0 fwmark 0x2005")
	f.Add("= wg wg0 fwmark off")
	f.Add("= wg wg0 listen-port 0")
	f.Add("= wg wg0 peer AQIDBAUG persistent-keepalive 0 25")
	f.Add("= wg wg0 peer AQIDBAUG endpoint [fe80::1%eth0]:51820")
	f.Fuzz(func(t *testing.T, s string) {
		if c, err := ParseChange(s); err == nil && c.String() != s {
			t.Errorf("%q is read as %q", s, c)
		}
	})
}
