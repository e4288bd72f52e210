// Package refresh has tunnels recover at once when the way of their packets
// changes: it sets marks again, has keepalives sent and follows the names of
// endpoints. Which devices are due is noted in STATE-DIR, so that no kill loses
// it.
package refresh
