package middleware

import "github.com/sealcache/sealcache/middleware/internal/wire"

// MaxNamespaceBytes bounds the length of a namespace.
const MaxNamespaceBytes = wire.MaxNamespaceBytes

// CheckNamespace returns the error that New would return for WithNamespace(ns).
// It is for tools that take a namespace from a user without making a Store.
func CheckNamespace(ns string) error { return wire.CheckNamespace(ns) }
