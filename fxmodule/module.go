package fxmodule

import (
	"errors"
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

// Module wires keys, stores and caches from the Config in the graph. It provides
//
//	store.StoreInterface      the cache named "default"; an application's own is decorated
//	*middleware.Store         the same, if it is sealed
//	*Caches                   every cache by name; Named provides some of them by name
//	*Keys                     what the sealed caches seal with
//	*jobs.Encryptor           the sealing of background jobs
//	*Health                   a check, and an http.Handler for readiness
//
//	*asynqjobs.Client         enqueues jobs
//	*asynqjobs.Scheduler      periodic jobs; runs while the application does
//	*asynq.Server             runs jobs; started and stopped with the application if it provides an *asynq.ServeMux
//	asynq.Handler             that mux, for tasks that are sealed
//	*asynq.Inspector          looks into the queues
//
// and takes, if they are there, a *slog.Logger, a metric.MeterProvider, a trace.TracerProvider, and aead.KEKOpener
// values in the group "kek"; and for jobs an asynq.RedisConnOpt, if Jobs.Redis is empty, an *asynq.ServeMux, Handlers in
// the group "jobs", and an asynq.Config. Monitor beside Module provides the admin page of jobs.
//
// It belongs among the options of fx.New itself. Inside an fx.Module it would seal the application's store for that
// module only, and leave it in clear for all others, so that fx.New refuses it there ("fx.Logger Option should be
// passed to top-level App", says fx).
//
// In a worker it belongs last among them: see Jobs in the package comment.
//
// If the application provides no store.StoreInterface of its own, list ProvideDefault beside Module: without it, only
// functions outside the application's own fx.Modules find the default cache, and for others fx says "missing type".
// *middleware.Store and the rest are found everywhere. A Config without a cache named "default" has no unnamed store;
// whoever takes one keeps the application from starting.
//
// Keys and stores are opened when the graph is built, checked at start, and closed at stop. If fx.New fails in a
// constructor of the application, fx runs no hooks, and they stay open until the process ends.
var Module fx.Option = fx.Options(
	onlyAtTheRoot(),
	fx.ErrorHook(hint{}),
	fx.Decorate(decorate),
	// In a module of its own, because modules' invoked functions run before those of the root: dig does not see that a
	// decorator makes a store where nobody provides one, until it has.
	fx.Module("sealcache",
		fx.Provide(newSystem, needStore, takeStore, attached, cachesOf, keysOf, healthOf, encryptorOf, sealedNamed(Default)),
		fx.Provide(newQueue, clientOf, inspectorOf, schedulerOf, newMux, handlerOf, serverOf, needServer, newGroupClient, newServer),
		fx.Invoke(func(*graph) {}),
	),
	// At the root, where an application's own invoked functions are, so that those that are listed before Module have their
	// hooks started before the server, and stopped after it.
	fx.Invoke(serve),
)

// ProvideDefault goes beside Module in an application that provides no store.StoreInterface of its own. It gives Module,
// which decorates, something to decorate: with Module alone, the default cache is found outside fx.Modules only. fx
// refuses it where the application provides a store ("already provided").
var ProvideDefault fx.Option = fx.Provide(func() store.StoreInterface { return absentStore{errUndecorated} })

// Named provides the caches of these names as store.StoreInterface and, for a sealed one, *middleware.Store, with the
// name as fx's: `name:"sessions"`.
func Named(names ...string) fx.Option {
	var options []fx.Option
	for _, name := range names {
		if err := checkName(name); err != nil {
			return fx.Error(fmt.Errorf("fxmodule: Named: %w", err))
		}
		tag := fx.ResultTags(`name:"` + name + `"`)
		options = append(options, fx.Provide(
			fx.Annotate(cacheNamed(name), tag),
			fx.Annotate(sealedNamed(name), tag),
		))
	}
	return fx.Options(options...)
}

// stderr is what fx logs to unless it is told otherwise.
type stderr struct{}

// Printf is given what is to be written, and nothing to format: a percent sign in it is one.
func (stderr) Printf(said string, _ ...any) { _, _ = io.WriteString(os.Stderr, said) }

// onlyAtTheRoot makes fx refuse Module inside an fx.Module. fx tells options nothing of where they are; of the options
// that it refuses there itself, this one, given fx's default, changes least: fx.WithLogger and
// fx.NopLogger go before it, and only an fx.Logger that is listed before Module has no effect.
func onlyAtTheRoot() fx.Option { return fx.Logger(stderr{}) }

// inputs are what the module takes from the graph besides stores.
type inputs struct {
	fx.In

	Config    Config
	Lifecycle fx.Lifecycle
	Graph     fx.DotGraph
	Openers   []aead.KEKOpener     `group:"kek"`
	Logger    *slog.Logger         `optional:"true"`
	Meters    metric.MeterProvider `optional:"true"`
	Tracers   trace.TracerProvider `optional:"true"`
}

// applicationStore is the application's own store, as decorate finds it.
type applicationStore struct {
	fx.In

	Store  store.StoreInterface `optional:"true"`
	System *system
}

// decorate turns the application's store, or none, into the default cache. dig calls it when something takes the store.
func decorate(p applicationStore) (store.StoreInterface, error) {
	if _, ours := p.Store.(absentStore); ours {
		p.Store = nil
	}
	s := p.System
	if !s.in.Config.needsStore() {
		return nil, errors.Join(s.noDefault(), s.close())
	}
	if err := s.attach(p.Store); err != nil {
		return nil, err
	}
	return s.caches.stores[Default], nil
}

// graph is proof that the caches are made: what is provided depends on it.
type graph struct{ system *system }

// attachment is what the caches are made of. With a Config that does without the unnamed store, Taken is nil.
type attachment struct {
	fx.In

	Taken  *taken `optional:"true"` // first: if the application's store fails, no keys have been opened yet
	System *system
}

// attached has the store decorated, if the Config needs it, and makes the caches by itself if not.
func attached(p attachment) (*graph, error) {
	switch {
	case p.System.in.Config.needsStore() != (p.Taken != nil):
		return nil, errors.Join(errNotDecorated, p.System.close())
	case p.Taken == nil:
		if err := p.System.attach(nil); err != nil {
			return nil, err
		}
	}
	return &graph{p.System}, nil
}

func cachesOf(g *graph) *Caches { return g.system.caches }

func keysOf(g *graph) *Keys { return g.system.keys }

func healthOf(g *graph) *Health { return &Health{g.system} }

func encryptorOf(g *graph) (*jobs.Encryptor, error) {
	if g.system.encryptor == nil {
		return nil, g.failed(errNoEncryptor)
	}
	return g.system.encryptor, nil
}

func cacheNamed(name string) func(*graph) (store.StoreInterface, error) {
	return func(g *graph) (store.StoreInterface, error) {
		s, err := g.system.caches.Cache(name)
		return s, g.failed(err)
	}
}

func sealedNamed(name string) func(*graph) (*middleware.Store, error) {
	return func(g *graph) (*middleware.Store, error) {
		s, err := g.system.caches.Sealed(name)
		return s, g.failed(err)
	}
}

// failed closes everything before a constructor returns an error: the application will not start, and fx runs no hooks.
func (g *graph) failed(err error) error {
	if err == nil {
		return nil
	}
	return errors.Join(err, g.system.close())
}
