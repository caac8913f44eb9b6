// Package rediswalk scans all keys in Redis, for packages migrate and audit. It scans every master of a Cluster. It also
// repeats failed calls, limits the rate, reports the progress, and runs Lua scripts.
//
// First call [New], which checks a client and returns its [Servers]. Put the Servers into a [Walk], with two functions: Work
// handles a batch of keys, and Merge adds up the results. Then call the method Run of the Walk. A caller can save the
// positions of a scan, and resume the scan in another process.
//
// Work can get a key more than once. Redis can return a key several times in one scan, and a scan can be repeated.
//
// Redis can miss entries in a scan if a server restarts, a replica takes over, or entries move between the masters of a
// Cluster. Walk.Run detects this, and scans again.
//
// The texts of its errors do not begin with the name of a package. Package migrate or audit puts its name before them.
package rediswalk
