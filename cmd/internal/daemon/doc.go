// Package daemon is what the two programs share towards the system: the unix socket a daemon is reached by, starting in
// the background, hardening of the process and the rights that it keeps once started, signals, the log, and the
// notifications of systemd.
package daemon
