package fxmodule

import (
	"fmt"

	"go.uber.org/fx"

	"github.com/sealcache/sealcache/middleware/sessions"
)

// Sessions provides a *sessions.Store over a sealed cache, which needs OneWayKeys or HiddenKeys. Give sessions a
// separate cache. Options such as sessions.WithUser are given here, because they are code.
func Sessions(cache string, opts ...sessions.Option) fx.Option {
	if err := checkName(cache); err != nil {
		return fx.Error(fmt.Errorf("fxmodule: Sessions: invalid cache name: %w", err))
	}
	return fx.Provide(func(o opened) (*sessions.Store, error) {
		sealed, err := o.caches.Sealed(cache)
		if err != nil {
			return nil, o.failed(err)
		}
		s, err := sessions.New(sealed, opts...)
		return s, o.failed(err)
	})
}
