// Package matrix puts every store that gocache publishes, and those of this module, through stores/storetest: as they
// are, and sealed by package middleware.
//
// It holds tests only, in a module of its own, so that nobody who imports this project gets these stores' dependencies.
// The declarations in its tests are a record of what each store does, defects included, and of what sealing mends.
package matrix
