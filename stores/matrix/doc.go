// Package matrix runs the suite stores/storetest over every store that gocache publishes and over the stores of this
// module. Each store is tested as it is, and sealed by package middleware.
//
// It holds tests only, in a separate module, so that importers of this project do not get these stores' dependencies.
// The declarations in its tests record the behaviour of each store, with its defects, and the defects that sealing
// repairs.
package matrix
