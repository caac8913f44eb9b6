// Package rediswalk scans Redis for packages migrate and audit: every master, with positions that survive a restart of
// the process, retries, a rate, scripts and progress.
//
// Begin with [New], which checks the client, and [Walk], which scans. A Walk detects the events that make SCAN miss
// entries: a server that restarts or fails over, and slots of a Cluster that move. It then scans again.
package rediswalk
