package wire

import "fmt"

// MaxNamespaceBytes bounds the length of a namespace.
const MaxNamespaceBytes = 64

// CheckNamespace returns an error unless ns is 1 to 64 letters, digits, and "_", ".", "-".
// The error does not quote ns, because a setting may hold a secret by mistake.
func CheckNamespace(ns string) error {
	if ns == "" || len(ns) > MaxNamespaceBytes {
		return fmt.Errorf("the namespace has %d bytes (1 to %d are allowed)", len(ns), MaxNamespaceBytes)
	}
	for i := range len(ns) {
		switch c := ns[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '_', c == '.', c == '-':
		default:
			return fmt.Errorf("the namespace has the byte %q at position %d (allowed are A-Z a-z 0-9 _ . -)", c, i)
		}
	}
	return nil
}
