// Package redistest starts real redis-server processes for tests and benchmarks.
//
// [Start] gives a test one server on a free loopback port and on a unix socket, in a directory of its own, and stops
// it when the test ends. [StartCluster] gives three masters that share the slots, [StartSentinel] a master, a replica
// and a sentinel. [StartProxy] stands between a client and a server and cuts or delays what passes. [Run] is for
// programs and examples that have no testing.TB: it returns an error, and its caller closes the server.
//
// The binary is redis-server of the PATH. Where it is missing the test fails and says how to install it: a test that
// is skipped proves nothing. Servers save nothing unless asked, and each listens on loopback only. A server is ended by
// the process id that this package started, on Linux also when the test process dies first.
//
// Servers, proxies and monitors are safe for concurrent use, except that a server must not be killed, stopped or
// restarted from two goroutines at once.
package redistest
