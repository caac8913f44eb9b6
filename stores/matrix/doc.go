// Package matrix puts every store that gocache publishes, and those of this module, through stores/storetest: as they
// are, and sealed by package middleware.
//
// It holds tests only, in a separate module, so that importers of this project do not get these stores' dependencies.
// The declarations in its tests are a record of what each store does, defects included, and of what sealing mends.
package matrix
