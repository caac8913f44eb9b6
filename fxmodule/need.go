package fxmodule

import (
	"errors"
	"fmt"
	"strings"

	"github.com/eko/gocache/lib/v4/store"
	"go.uber.org/fx"
)

// A Config without a cache named "default" provides no unnamed store.StoreInterface, and whoever takes one must learn
// that when the graph is built, not at the first request. But Module has a decorator for it, and a decorator, once it
// has run, must have returned a store. So it is run for the Config that needs it only, and otherwise left to run, and to
// fail, if something else takes the store.
//
// dig takes no decisions by values. What it offers is that an optional value is left out if its constructor lacks
// something: taken is optional to attached, and its constructor depends on needed, whose own says that it lacks something.

// needed is there if the Config needs the unnamed store, to decorate it or to stand on it.
type needed struct{}

// taken is proof that the store was taken, and thereby decorated.
type taken struct{}

func needStore(c Config) (needed, error) {
	if c.needsStore() {
		return needed{}, nil
	}
	return needed{}, lacking()
}

func takeStore(needed, optionalStore) *taken { return &taken{} }

type optionalStore struct {
	fx.In

	Store store.StoreInterface `optional:"true"`
}

// lacking returns dig's own error of a value that cannot be had: dig goes by its type, which it does not export.
func lacking() error {
	type nowhere struct{}
	return fx.New(fx.NopLogger, fx.Invoke(func(nowhere) {})).Err()
}

var errNotDecorated = errors.New("fxmodule: the application's store was not decorated, because something that it needs is missing")

// needsStore says whether a cache is the unnamed store, or stands on the application's.
func (c Config) needsStore() bool {
	if _, ok := c.Caches[Default]; ok {
		return true
	}
	for _, cache := range c.Caches {
		if cache.Store == "" {
			return true
		}
	}
	return false
}

func (s *system) noDefault() error {
	return fmt.Errorf("%w: the application takes the unnamed store.StoreInterface, which is the cache named %q; the Config has %s. Name one so, or take one by its name (fxmodule.Named) or from *fxmodule.Caches",
		ErrNoCache, Default, strings.Join(s.in.Config.names(), ", "))
}
