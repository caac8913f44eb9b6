// Package redistest starts real redis-server processes for tests and benchmarks.
//
// [Start] gives a test one server on a free loopback port and on a unix socket, in a separate directory, and stops it
// when the test ends. [StartCluster] starts three masters that share the slots, [StartSentinel] a master, a replica
// and a sentinel. [StartProxy] stands between a client and a server, and cuts or delays connections. [Run] is for
// programs and examples without a testing.TB: it returns an error, and the caller closes the server.
//
// The binary is redis-server from the PATH. If it is missing the test fails, because a skipped test proves nothing.
// Servers write no files unless a test asks for it, and listen on loopback only. This package ends a server by its process
// id, on Linux also when the test process dies first.
//
// Servers, proxies and monitors are safe for concurrent use. But two goroutines must not kill, stop or restart one
// server at the same time.
package redistest
