package state

// Names are those of all that lies in STATE-DIR.
func Names() []string {
	return []string{leasesDir, toldDir, dueDir, sysctlsDir, socketsFile, lockFile, tellFile, watchFile, dueLock}
}
