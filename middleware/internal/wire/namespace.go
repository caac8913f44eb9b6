package wire

import "github.com/sealcache/sealcache/internal/names"

// MaxNamespaceBytes bounds the length of a namespace.
const MaxNamespaceBytes = names.MaxBytes

// CheckNamespace returns an error unless ns is 1 to 64 letters, digits, and "_", ".", "-".
func CheckNamespace(ns string) error { return names.Check("the namespace", ns) }
