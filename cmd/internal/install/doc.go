// Package install knows which files have DHCP clients, network managers and
// systemd call this program, where they lie, and whose they are.
//
// Table, PlanInstall and PlanUninstall are pure: what a host has is a value,
// Facts, and what is to be done is a list of lines. A Tree is the edge that reads
// the one and does the other, below a root that no symbolic link leads out of.
// A Manager is the edge to systemd.
package install
