// Package matrix runs the suite stores/storetest over every store that gocache publishes and over the stores of sealcache.
// The suite tests each store twice: alone, and wrapped by a middleware.Store. The tests need redis-server and memcached:
//
//	cd stores/matrix && go test ./...
//
// The package holds only tests. It is a separate Go module, so that users of sealcache do not get these stores'
// dependencies.
//
// The values of storetest.Capabilities in the tests record the behavior and the defects of each store. They also show which
// defects a middleware.Store repairs.
package matrix
