package middleware_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	canaries "github.com/sealcache/sealcache/internal/leaktest"
	"github.com/sealcache/sealcache/internal/reporttest"
	"github.com/sealcache/sealcache/middleware"
)

// secretReports holds the reports of a store, none of which may hold a value or the name of a key.
type secretReports struct {
	*reporttest.Reports
	secrets *canaries.Set
}

func newSecretReports(secrets *canaries.Set) *secretReports {
	return &secretReports{reporttest.New(), secrets}
}

// options returns options that make a store report to r.
func (r *secretReports) options() []middleware.Option {
	return []middleware.Option{
		middleware.WithLogger(r.Logger),
		middleware.WithMeterProvider(r.Meters),
		middleware.WithTracerProvider(r.Tracers),
	}
}

// err records an error as an application would print or log it, and returns it.
func (r *secretReports) err(err error) error { return r.Err(err) }

// requireNoSecrets fails if r holds a canary.
func (r *secretReports) requireNoSecrets(t testing.TB) {
	t.Helper()
	for place, said := range r.Places(t) {
		require.Empty(t, r.secrets.Find(said), "in %s: %s", place, said)
	}
}
