// Package redistest starts real redis-server processes for tests and benchmarks.
//
// [Start] starts one server. [StartCluster] starts a Redis Cluster of three masters. [StartSentinel] starts a master, a
// replica and a sentinel. [StartProxy] starts a proxy in front of a server. The proxy can cut and delay connections. All
// servers and proxies stop when the test ends. [Run] is for programs without a testing.TB: Run returns an error, and the
// caller closes the server.
//
// The program redis-server must be in the PATH. Otherwise the test fails, and is not skipped. Each server has its own
// directory and listens only on this machine. By default, a server does not write data files.
//
// Several goroutines may use a server at once, even while another goroutine stops, kills or starts it. But two goroutines
// must not stop, kill or start the same server at the same time.
package redistest
