package fxmodule

import (
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"github.com/eko/gocache/lib/v4/store"

	"github.com/sealcache/sealcache/middleware"
)

// Caches are the caches of the Config by name, where fx's names, which have to be written in the program, do not
// reach. It is safe for concurrent use.
type Caches struct {
	names  []string
	stores map[string]store.StoreInterface
	sealed map[string]*middleware.Store
}

// Cache returns the named cache, sealed or clear as its Config says. It is ErrNoCache if there is none of the name.
func (c *Caches) Cache(name string) (store.StoreInterface, error) {
	s, ok := c.stores[name]
	if !ok {
		return nil, c.missing(name)
	}
	return s, nil
}

// Sealed returns the named cache if it is a sealed one. It is ErrNoCache if it is clear, or there is none of the name.
func (c *Caches) Sealed(name string) (*middleware.Store, error) {
	s, ok := c.sealed[name]
	if !ok {
		if _, clear := c.stores[name]; clear {
			return nil, fmt.Errorf("%w: the Config says that %s is clear, so there is no sealed one; ask for the store.StoreInterface", ErrNoCache, showName(name))
		}
		return nil, c.missing(name)
	}
	return s, nil
}

// Names returns the caches' names in order.
func (c *Caches) Names() []string { return slices.Clone(c.names) }

func (c *Caches) missing(name string) error {
	return fmt.Errorf("%w: %s; the Config has %s", ErrNoCache, showName(name), strings.Join(c.names, ", "))
}

// String lists the names.
func (c *Caches) String() string {
	return fmt.Sprintf("fxmodule.Caches(%s)", strings.Join(c.names, ", "))
}

// GoString is String.
func (c *Caches) GoString() string { return c.String() }

// LogValue is String.
func (c *Caches) LogValue() slog.Value { return slog.StringValue(c.String()) }
