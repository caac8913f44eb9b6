// Package matrix runs the test suite of package storetest with the stores of gocache that docs/stores.md lists, and with redisstore
// and memorystore. It tests each store twice: alone, and with sealed (encrypted) values of a middleware.Store. The tests need
// redis-server and memcached:
//
//	cd stores/matrix && go test ./...
//
// The package holds only tests. It is a separate Go module, so that users of sealcache do not get the dependencies of
// these stores.
//
// The values of storetest.Capabilities in the tests record the features and defects of each store.
package matrix
