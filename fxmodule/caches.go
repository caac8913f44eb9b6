package fxmodule

import (
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"github.com/eko/gocache/lib/v4/store"

	"github.com/sealcache/sealcache/middleware"
)

// Caches are the caches of the Config by name, for names that are known only at run time. It is safe for concurrent use.
type Caches struct {
	system *system
	names  []string
	stores map[string]store.StoreInterface
	sealed map[string]*middleware.Store
}

// Cache returns the named cache, sealed or unsealed. The error is ErrNoCache if the Config has no cache of that name.
func (c *Caches) Cache(name string) (store.StoreInterface, error) {
	s, ok := c.stores[name]
	if !ok {
		return nil, c.missing(name)
	}
	return s, nil
}

// Sealed returns the named cache if it is sealed. The error is ErrNoCache if it is unsealed, or the Config has no cache of
// that name.
func (c *Caches) Sealed(name string) (*middleware.Store, error) {
	s, ok := c.sealed[name]
	if !ok {
		if _, unsealed := c.stores[name]; unsealed {
			return nil, fmt.Errorf("%w: cache %s is unsealed, but a sealed cache (*middleware.Store) is needed here", ErrNoCache, showName(name))
		}
		return nil, c.missing(name)
	}
	return s, nil
}

// Names returns the names in order.
func (c *Caches) Names() []string { return slices.Clone(c.names) }

// Close closes the stores and keys that were opened here. The application's stop does so by itself. Call Close only if
// fx.New fails after it made the Caches, because fx then runs no hooks. A second call does nothing.
func (c *Caches) Close() error {
	if c == nil || c.system == nil { // an application has decorated *Caches
		return nil
	}
	return c.system.close()
}

func (c *Caches) missing(name string) error {
	return fmt.Errorf("%w: the Config has no cache %s (its caches are %s)", ErrNoCache, showName(name), strings.Join(c.names, ", "))
}

// String returns the names.
func (c *Caches) String() string {
	return fmt.Sprintf("fxmodule.Caches(%s)", strings.Join(c.names, ", "))
}

// GoString returns String.
func (c *Caches) GoString() string { return c.String() }

// LogValue returns String.
func (c *Caches) LogValue() slog.Value { return slog.StringValue(c.String()) }
