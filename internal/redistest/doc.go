// Package redistest starts real redis-server processes for tests and benchmarks.
//
// [Start] starts one server for a test, on a free loopback port and a unix socket. The server has its own directory, and stops when
// the test ends. [StartCluster] starts a Cluster of three masters. [StartSentinel] starts a master, a replica and a sentinel.
// [StartProxy] starts a proxy in front of a server. The proxy can cut and delay connections. [Run] is for programs and examples
// without a testing.TB: it returns an error, and the caller closes the server.
//
// The binary is redis-server from the PATH. If it is missing the test fails, because a skipped test proves nothing.
// Servers write no data files unless a test turns persistence on. They listen on loopback only. This package stops a server by its
// process id. On Linux, a server also ends when the test process dies.
//
// Servers, proxies and monitors are safe for concurrent use. But two goroutines must not kill, stop or restart one
// server at the same time.
package redistest
