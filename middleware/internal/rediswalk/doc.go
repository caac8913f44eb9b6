// Package rediswalk scans the keys of every Redis master, for packages migrate and audit. It repeats failed calls, limits the rate,
// and reports the progress. It also runs Lua scripts. A caller can save the scan positions and resume the scan in a new
// process.
//
// Begin with [New] and [Walk]. New checks the client. Walk scans.
//
// SCAN can miss entries if a server restarts or fails over, or if Cluster slots move. A Walk detects this and scans again.
package rediswalk
