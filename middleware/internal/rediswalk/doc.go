// Package rediswalk scans every master of a Redis for packages migrate and audit. It retries, limits its rate, reports its
// progress and runs scripts. Its positions survive a restart of the process.
//
// Begin with [New], which checks the client, and [Walk], which scans. A Walk detects the events that make SCAN miss
// entries: a server that restarts or fails over, and slots of a Cluster that move. It then scans again.
package rediswalk
