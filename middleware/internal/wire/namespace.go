package wire

import "fmt"

// MaxNamespaceBytes bounds the length of a namespace.
const MaxNamespaceBytes = 64

// CheckNamespace returns an error unless ns is 1 to 64 letters, digits, and "_", ".", "-".
func CheckNamespace(ns string) error {
	if ns == "" || len(ns) > MaxNamespaceBytes {
		return fmt.Errorf("the namespace has %d bytes (1 to %d are allowed)", len(ns), MaxNamespaceBytes)
	}
	for i := range len(ns) {
		switch c := ns[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '_', c == '.', c == '-':
		default:
			return fmt.Errorf("the namespace %q has the byte %q at position %d (allowed are A-Z a-z 0-9 _ . -)", ns, c, i)
		}
	}
	return nil
}
