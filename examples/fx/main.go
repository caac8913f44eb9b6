// Command fx is a small HTTP service whose cache is sealed (encrypted). It is built with go.uber.org/fx and keeps the cache
// in memory:
//
//	go run ./examples/fx
//	curl -X PUT -d '{"name":"Alice","email":"alice@example.com"}' localhost:8080/profiles/42
//	curl localhost:8080/profiles/42
//	curl localhost:8080/readyz
//
// To keep the cache in Redis, also set a passphrase from which the keys are made. After a restart with the same passphrase,
// the program can still read the entries:
//
//	PROFILES_PASSPHRASE='...' SEALCACHE_STORE=redis://localhost:6379 go run ./examples/fx
//
// All other settings of package fxmodule work too, such as SEALCACHE_TTL=10m.
//
// The first "go run" command uses a random passphrase. Both commands make the key-encryption key without a salt, so the
// program logs a warning. docs/keys.md describes how to make a salt.
package main

import (
	"crypto/rand"
	"errors"
	"log/slog"
	"os"
	"strings"

	"go.uber.org/fx"
	"go.uber.org/fx/fxevent"

	"github.com/sealcache/sealcache/fxmodule"
	"github.com/sealcache/sealcache/middleware"
)

func main() {
	fx.New(
		fxmodule.Module, // keys, stores, the sealed store.StoreInterface, *fxmodule.Health
		fx.Provide(config),
		fx.Module("profiles", fx.Provide(newProfiles, mux), fx.Invoke(serve)), // newProfiles takes a store.StoreInterface
		fx.Supply(slog.New(slog.NewTextHandler(os.Stderr, nil))),
		fx.WithLogger(quiet),
	).Run()
}

// config reads SEALCACHE_ variables, after defaults for a first run.
func config() (fxmodule.Config, error) {
	passphrase := ""
	switch store := os.Getenv("SEALCACHE_STORE"); {
	case store == "" || strings.HasPrefix(store, "memory://"):
		passphrase = rand.Text() // for this process only, like the store
	case os.Getenv("SEALCACHE_KEK") == "" && os.Getenv("PROFILES_PASSPHRASE") == "":
		return fxmodule.Config{}, errors.New("there are no keys for the Redis store (set PROFILES_PASSPHRASE)")
	}
	for name, value := range map[string]string{
		"SEALCACHE_STORE":     "memory://",
		"SEALCACHE_NAMESPACE": "profiles",
		"SEALCACHE_KEK":       "passphrase:env:PROFILES_PASSPHRASE",
		"PROFILES_PASSPHRASE": passphrase,
	} {
		if os.Getenv(name) == "" && value != "" {
			if err := os.Setenv(name, value); err != nil {
				return fxmodule.Config{}, err
			}
		}
	}
	c, err := fxmodule.ConfigFromEnv()
	if err != nil {
		return c, err
	}
	profiles := c.Caches[fxmodule.Default]
	profiles.Codecs = []middleware.Codec{middleware.JSON[Profile]()} // a struct needs a codec
	c.Caches[fxmodule.Default] = profiles
	return c, nil
}

// quiet logs only the errors of fx.
func quiet(log *slog.Logger) fxevent.Logger {
	l := &fxevent.SlogLogger{Logger: log}
	l.UseLogLevel(slog.LevelDebug)
	return l
}
