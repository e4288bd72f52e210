package state

// Names are those of all that lies in STATE-DIR.
func Names() []string {
	return []string{leasesDir, toldDir, dueDir, sysctlsDir, socketsFile, lockFile, tellFile, watchFile, dueLock, InForceFile, TryFile, TryLock}
}

// What the room try keeps in STATE-DIR, or in a folder that outlives a reboot.
const (
	InForceFile = "in-force.json"
	TryFile     = "try.json"
	TryLock     = "try.lock"
)
