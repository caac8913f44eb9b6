// Package matrix runs the suite stores/storetest over every store that gocache publishes and over the stores of sealcache.
// Each store is tested as it is, and sealed by package middleware. The tests need redis-server and memcached:
//
//	cd stores/matrix && go test ./...
//
// The package holds only tests. It is a separate Go module, so that users of sealcache do not get these stores'
// dependencies.
//
// The declarations in its tests record the behaviour of each store, with its defects, and the defects that sealing
// repairs.
package matrix
