package fxmodule

import (
	"fmt"
	"io"
	"log/slog"
	"os"

	"github.com/eko/gocache/lib/v4/store"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/fx"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/middleware"
	"github.com/sealcache/sealcache/middleware/jobs"
)

// Module provides the caches of the Config in the graph. Use Decorator instead if the application provides a
// store.StoreInterface. Module provides
//
//	store.StoreInterface      the cache named "default"
//	*middleware.Store         the same cache, if it is sealed
//	*Caches                   all caches by name; Named provides them by fx name
//	*Keys                     the keys of the sealed caches
//	*jobs.Encryptor           the sealing of background jobs
//	*Health                   a readiness check, also an http.Handler
//
// It requires a Config, and uses a *slog.Logger, a metric.MeterProvider, a trace.TracerProvider, and aead.KEKOpener
// values in the group "kek" if the application provides them.
//
// Keys and stores are opened when the graph is built, checked at start, and closed at stop. If a constructor of the
// application fails in fx.New, fx runs no hooks. The keys and stores then stay open until Close of *Caches.
//
// Module decorates nothing. A store that the application provides under a name, in a group, as fx.Private or as another
// type is neither sealed nor replaced.
var Module fx.Option = fx.Module("sealcache",
	common(),
	fx.Provide(open, defaultStore),
	fx.Invoke(func(opened) {}), // the caches are checked at start even if nothing takes them
)

// Decorator is used instead of Module in an application that provides a store.StoreInterface. It seals that store
// for every function that takes it, and provides the rest of what Module does. The cache "default" describes it,
// without Store.
//
// List Decorator among the options of fx.New itself. fx.New refuses it inside an fx.Module, where it would seal the store
// for that module only, and the rest of the application would store plaintext. The error of fx.New is then "fx.Logger
// Option should be passed to top-level App, not to fx.Module", because Decorator contains an fx.Logger for this purpose.
// List an fx.Logger of the application after Decorator. If it is listed before, fx logs to standard error instead.
// fx.WithLogger and fx.NopLogger work in any place.
//
// Decorator also replaces a store.StoreInterface that an fx.Module provides as fx.Private: functions in that module get
// the sealed public store, and their entries go there. fx can neither prevent nor report it. Seal such a store in its own
// constructor with [middleware.New], and provide it as a *middleware.Store.
//
// Decorator does not reach stores under a name, in a group, or of another type such as *redisstore.Store. It does not reach
// stores that fx does not provide. Wrap these stores with middleware.New.
//
// fx.New refuses Module next to Decorator ("already provided").
var Decorator fx.Option = fx.Options(
	onlyAtRoot(),
	common(),
	fx.Provide(openedBelow),
	fx.Decorate(sealStore),
	fx.Invoke(func(opened) {}),
)

// common is what Module and Decorator both provide.
func common() fx.Option {
	return fx.Provide(newSystem, cachesOf, sealedNamed(Default), keysOf, encryptorOf, newHealth)
}

// onlyAtRoot makes fx refuse the options inside an fx.Module. Functions that an fx.Module provides, decorates or invokes all
// run in its scope, so none of them sees that the root has another store. Only four options fail inside an fx.Module. At the
// root, fx.Logger changes the least: this one repeats fx's default. The others would change timeouts, or recover panics.
func onlyAtRoot() fx.Option { return fx.Logger(stderr{}) }

type stderr struct{}

// Printf ignores args, because fx formats the line before it calls Printf.
func (stderr) Printf(line string, _ ...any) { _, _ = io.WriteString(os.Stderr, line) }

// Named provides caches under their names, as store.StoreInterface and, for a sealed cache, *middleware.Store. The fx
// tag is `name:"sessions"`.
func Named(names ...string) fx.Option {
	var options []fx.Option
	for _, name := range names {
		if err := checkName(name); err != nil {
			return fx.Error(fmt.Errorf("fxmodule: Named: invalid cache name: %w", err))
		}
		tag := fx.ResultTags(`name:"` + name + `"`)
		options = append(options, fx.Provide(
			fx.Annotate(cacheNamed(name), tag),
			fx.Annotate(sealedNamed(name), tag),
		))
	}
	return fx.Options(options...)
}

// inputs are the dependencies on the application.
type inputs struct {
	fx.In

	Config    Config
	Lifecycle fx.Lifecycle
	Openers   []aead.KEKOpener     `group:"kek"`
	Logger    *slog.Logger         `optional:"true"`
	Meters    metric.MeterProvider `optional:"true"`
	Tracers   trace.TracerProvider `optional:"true"`
}

// opened is a system whose caches are open. The constructors below take it instead of *Caches, which the application may
// decorate.
type opened struct{ *system }

// open opens the caches of Module.
func open(s *system) (opened, error) { return opened{s}, s.open(nil) }

// sealStore opens the caches of Decorator over the application's store.
func sealStore(application store.StoreInterface, s *system) (store.StoreInterface, error) {
	if err := s.open(application); err != nil {
		return nil, err
	}
	return s.caches.stores[Default], nil
}

// openedBelow takes the decorated store so that fx has called sealStore before.
func openedBelow(_ store.StoreInterface, s *system) opened { return opened{s} }

func cachesOf(o opened) *Caches { return o.caches }

func defaultStore(o opened) (store.StoreInterface, error) { return cacheNamed(Default)(o) }

func cacheNamed(name string) func(opened) (store.StoreInterface, error) {
	return func(o opened) (store.StoreInterface, error) {
		s, err := o.caches.Cache(name)
		return s, o.failed(err)
	}
}

func sealedNamed(name string) func(opened) (*middleware.Store, error) {
	return func(o opened) (*middleware.Store, error) {
		s, err := o.caches.Sealed(name)
		return s, o.failed(err)
	}
}

func keysOf(o opened) *Keys { return o.keys }

func encryptorOf(o opened) (*jobs.Encryptor, error) {
	if o.encryptor == nil {
		return nil, o.failed(errNoEncryptor)
	}
	if err := o.in.Config.ValidateJobs(); err != nil { // the encryptor is jobs, although the Config may not set Jobs
		return nil, o.failed(err)
	}
	return o.encryptor, nil
}
