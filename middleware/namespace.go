package middleware

import (
	"errors"
	"strings"

	"github.com/sealcache/sealcache/middleware/internal/wire"
)

// CheckNamespace returns the error that New would return for WithNamespace(ns).
// It is for tools that take a namespace from a user without making a Store.
func CheckNamespace(ns string) error {
	for _, start := range []string{tagLists, freecacheTagLists} {
		if strings.HasPrefix(ns, start) {
			return errTagNamespace
		}
	}
	return wire.CheckNamespace(ns)
}

// errTagNamespace is the error of a namespace whose entries could be taken for the lists of tags of another cache.
var errTagNamespace = errors.New("the namespace must not start with " + tagLists + " or " + freecacheTagLists + ", as the lists of tags do")
