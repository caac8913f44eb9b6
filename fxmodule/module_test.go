package fxmodule_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/eko/gocache/lib/v4/store"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/metric"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/fx"
	"go.uber.org/fx/fxevent"

	"github.com/sealcache/sealcache/fxmodule"
	"github.com/sealcache/sealcache/internal/sealtest"
	"github.com/sealcache/sealcache/middleware"
	"github.com/sealcache/sealcache/middleware/jobs"
	"github.com/sealcache/sealcache/stores/memorystore"
)

// consumer is a service that takes the store in its constructor.
type consumer struct{ store store.StoreInterface }

func newConsumer(s store.StoreInterface) *consumer { return &consumer{s} }

// eachWay calls test with every way in which an application takes its store. take sets *got.
func eachWay(got *store.StoreInterface, test func(way string, take fx.Option)) {
	for way, take := range map[string]fx.Option{
		"populate":    fx.Populate(got),
		"invoke":      fx.Invoke(func(s store.StoreInterface) { *got = s }),
		"constructor": fx.Options(fx.Provide(newConsumer), fx.Invoke(func(c *consumer) { *got = c.store })),
		"both types": fx.Invoke(func(m *middleware.Store, s store.StoreInterface) error {
			*got = s
			if any(m) != any(s) {
				return errors.New("two stores where one is expected")
			}
			return nil
		}),
		"in a module": fx.Module("inner", fx.Provide(newConsumer), fx.Invoke(func(c *consumer) { *got = c.store })),
	} {
		test(way, take)
	}
}

// In any order of the options, and in every way of taking the store, the application gets the sealed store.
func TestDefaultCacheIsSealedInEveryOrder(t *testing.T) {
	t.Parallel()
	kek := sealtest.KEKFile(t)
	var got store.StoreInterface
	eachWay(&got, func(way string, take fx.Option) {
		for order, arrange := range map[string]func(module, application fx.Option) fx.Option{
			"module first":     func(m, a fx.Option) fx.Option { return fx.Options(m, a) },
			"module last":      func(m, a fx.Option) fx.Option { return fx.Options(a, m) },
			"module in module": func(m, a fx.Option) fx.Option { return fx.Options(a, fx.Module("infrastructure", m)) },
		} {
			t.Run("Module/"+order+"/"+way, func(t *testing.T) {
				got = nil
				start(t, fx.New(fx.NopLogger, quiet(), fx.Supply(one(fxmodule.Cache{Store: "memory://", KEK: kek})), arrange(fxmodule.Module, take)))
				require.IsType(t, (*middleware.Store)(nil), got)
				require.NoError(t, got.Set(t.Context(), "k", 42))
				v, err := got.Get(t.Context(), "k")
				require.NoError(t, err)
				require.Equal(t, 42, v)
			})
			if order == "module in module" {
				continue // see TestDecoratorInsideAModuleIsRefused
			}
			t.Run("Decorator/"+order+"/"+way, func(t *testing.T) {
				got = nil
				backing := newMemory(t)
				start(t, fx.New(fx.NopLogger, quiet(), fx.Supply(one(fxmodule.Cache{KEK: kek})),
					arrange(fxmodule.Decorator, fx.Options(take, provideStore(backing)))))
				require.IsType(t, (*middleware.Store)(nil), got)
				requireSealed(t, got, backing, "patient")
			})
		}
	})
}

// Module contains no fx.Decorate, so a module's private store stays its own.
func TestPrivateStoreStaysWithModule(t *testing.T) {
	t.Parallel()
	kek := sealtest.KEKFile(t)
	for order, arrange := range map[string]func(a, b fx.Option) fx.Option{
		"module first": func(a, b fx.Option) fx.Option { return fx.Options(a, b) },
		"module last":  func(a, b fx.Option) fx.Option { return fx.Options(b, a) },
	} {
		private := newMemory(t)
		var inside, outside store.StoreInterface
		start(t, fx.New(fx.NopLogger, quiet(), fx.Supply(one(fxmodule.Cache{Store: "memory://", KEK: kek})),
			arrange(fxmodule.Module, fx.Module("private",
				fx.Provide(func() store.StoreInterface { return private }, fx.Private),
				fx.Invoke(func(s store.StoreInterface) { inside = s }))),
			fx.Populate(&outside)))
		require.Same(t, private, inside, order)
		require.IsType(t, (*middleware.Store)(nil), outside, order)
	}
}

// Decorator replaces private stores by the sealed public store, as its documentation says.
func TestPrivateStoreIsReplacedByDecorator(t *testing.T) {
	t.Parallel()
	private, public := newMemory(t), newMemory(t)
	var inside, outside store.StoreInterface
	start(t, decorated(one(fxmodule.Cache{KEK: sealtest.KEKFile(t)}), public,
		fx.Module("private",
			fx.Provide(func() store.StoreInterface { return private }, fx.Private),
			fx.Invoke(func(s store.StoreInterface) { inside = s })),
		fx.Populate(&outside)))
	require.Same(t, outside, inside)
	requireSealed(t, inside, public, "patient")
}

// Decorator seals a store that one of the application's modules provides, for all of them.
func TestDecoratedStoreProvidedInAModule(t *testing.T) {
	t.Parallel()
	backing := newMemory(t)
	var inside, outside store.StoreInterface
	start(t, fx.New(fx.NopLogger, quiet(), fx.Supply(one(fxmodule.Cache{KEK: sealtest.KEKFile(t)})), fxmodule.Decorator,
		fx.Module("infrastructure", provideStore(backing), fx.Invoke(func(s store.StoreInterface) { inside = s })),
		fx.Populate(&outside)))
	require.Same(t, inside, outside)
	requireSealed(t, inside, backing, "patient")
}

// A module of the application that decorates for itself is given the sealed store.
func TestDecorateAfterDecorator(t *testing.T) {
	t.Parallel()
	backing := newMemory(t)
	var given, taken store.StoreInterface
	start(t, decorated(one(fxmodule.Cache{KEK: sealtest.KEKFile(t)}), backing, fx.Module("inner",
		fx.Decorate(func(s store.StoreInterface) store.StoreInterface { given = s; return opaque{s} }),
		fx.Invoke(func(s store.StoreInterface) { taken = s }))))
	require.IsType(t, (*middleware.Store)(nil), given)
	requireSealed(t, taken, backing, "patient")
}

// Inside an fx.Module, Decorator would not reach the rest of the application, which would store plaintext.
func TestDecoratorInsideAModuleIsRefused(t *testing.T) {
	t.Parallel()
	var got store.StoreInterface
	err := fx.New(fx.NopLogger, quiet(), fx.Supply(one(fxmodule.Cache{KEK: sealtest.KEKFile(t)})), provideStore(newMemory(t)),
		fx.Module("infrastructure", fxmodule.Decorator), fx.Populate(&got)).Err()
	require.ErrorContains(t, err, "should be passed to top-level App")
	require.Nil(t, got)
}

// Without its own logger, an application sees fx's log on stderr as before.
func TestDecoratorKeepsTheLogOfFx(t *testing.T) {
	said := captureStderr(t, func() {
		app := fx.New(quiet(), fx.Supply(one(fxmodule.Cache{Unsealed: true})), provideStore(newMemory(t)), fxmodule.Decorator,
			fx.Invoke(func() error { return errors.New("100% certain") }))
		require.Error(t, app.Err())
	})
	require.Contains(t, said, "[Fx] SUPPLY\tfxmodule.Config\n")
	require.Contains(t, said, "100% certain\n")
}

// printed is a logger of fx.Logger.
type printed struct{ strings.Builder }

func (p *printed) Printf(format string, args ...any) { fmt.Fprintf(&p.Builder, format, args...) }

// fx.WithLogger works in any place, and fx.Logger only after Decorator, which contains one.
func TestDecoratorAndTheLoggersOfFx(t *testing.T) {
	for name, c := range map[string]struct {
		logger func(*printed) fx.Option
		before bool
		kept   bool
	}{
		"Logger before":     {func(p *printed) fx.Option { return fx.Logger(p) }, true, false},
		"Logger after":      {func(p *printed) fx.Option { return fx.Logger(p) }, false, true},
		"WithLogger before": {withConsole, true, true},
		"WithLogger after":  {withConsole, false, true},
	} {
		var log printed
		first, second := fxmodule.Decorator, c.logger(&log)
		if c.before {
			first, second = second, first
		}
		said := captureStderr(t, func() {
			require.NoError(t, fx.New(first, second, quiet(), fx.Supply(one(fxmodule.Cache{Unsealed: true})), provideStore(newMemory(t))).Err(), name)
		})
		require.Equal(t, c.kept, strings.Contains(log.String(), "fxmodule.sealStore"), name)
		require.Equal(t, !c.kept, strings.Contains(said, "fxmodule.sealStore"), name)
	}
}

func withConsole(p *printed) fx.Option {
	return fx.WithLogger(func() fxevent.Logger { return &fxevent.ConsoleLogger{W: p} })
}

func TestValidateApp(t *testing.T) {
	t.Parallel()
	take := fx.Invoke(func(store.StoreInterface, *middleware.Store, *fxmodule.Caches, *fxmodule.Keys, *fxmodule.Health, *jobs.Encryptor) {
	})
	config := fx.Supply(fxmodule.Config{})
	require.NoError(t, fx.ValidateApp(fx.NopLogger, config, fxmodule.Module, take))
	require.NoError(t, fx.ValidateApp(fx.NopLogger, config, take, fxmodule.Decorator, provideStore(nil)))
	require.ErrorContains(t, fx.ValidateApp(fx.NopLogger, fxmodule.Module), "missing type: fxmodule.Config")
}

// unprovided is a type that no application here provides.
type unprovided struct{}

// A wiring that cannot seal what the application expects does not start, and the error says what to change.
func TestWiringErrors(t *testing.T) {
	t.Parallel()
	kek := sealtest.KEKFile(t) + "?reload=off" // fx closes no keys if it fails
	var typedNil *memorystore.Store
	over, byURL := one(fxmodule.Cache{KEK: kek}), one(fxmodule.Cache{KEK: kek, Store: "memory://"})
	named := fxmodule.Config{Caches: map[string]fxmodule.Cache{"sessions": {KEK: kek, Store: "memory://"}}}
	backing := newMemory(t)
	for name, c := range map[string]struct {
		config  fxmodule.Config
		module  fx.Option
		options fx.Option
		want    string
	}{
		"Module, no store":        {over, fxmodule.Module, fx.Options(), `cache "default": store: the cache has no store`},
		"Module, own store":       {byURL, fxmodule.Module, provideStore(backing), "already provided"},
		"Module and Decorator":    {byURL, fx.Options(fxmodule.Module, fxmodule.Decorator), fx.Options(), "already provided"},
		"Module, no default":      {named, fxmodule.Module, fx.Invoke(func(store.StoreInterface) {}), "no suitable cache"},
		"Decorator, no store":     {over, fxmodule.Decorator, fx.Options(), "missing type: store.StoreInterface"},
		"Decorator, unprovided":   {over, fxmodule.Decorator, fx.Provide(func(unprovided) store.StoreInterface { return nil }), "missing type: fxmodule_test.unprovided"},
		"Decorator, broken store": {over, fxmodule.Decorator, fx.Provide(func() (store.StoreInterface, error) { return nil, errBroken }), errBroken.Error()},
		"Decorator, nil store":    {over, fxmodule.Decorator, provideStore(typedNil), "the cache has no store"},
		"Decorator, URL":          {byURL, fxmodule.Decorator, provideStore(backing), `needs a cache "default" without "store"`},
		"Decorator, no default":   {named, fxmodule.Decorator, provideStore(backing), `needs a cache "default" without "store"`},
		"Decorator, sealed store": {over, fxmodule.Decorator, fx.Provide(func() (store.StoreInterface, error) {
			return middleware.New(backing, sealtest.Keyring(t))
		}), "already a sealed store"},
		"not sealed":    {one(fxmodule.Cache{Store: "memory://"}), fxmodule.Module, fx.Options(), "the cache has no encryption keys"},
		"no such name":  {byURL, fxmodule.Module, fx.Options(fxmodule.Named("x"), fx.Invoke(fx.Annotate(func(store.StoreInterface) {}, fx.ParamTags(`name:"x"`)))), "no suitable cache"},
		"name":          {byURL, fxmodule.Module, fxmodule.Named("a\" b:\"c"), "fxmodule: Named: invalid cache name: the name has the byte"},
		"sealed as not": {one(fxmodule.Cache{Store: "memory://", Unsealed: true}), fxmodule.Module, fx.Invoke(func(*middleware.Store) {}), "is unsealed, but a sealed cache (*middleware.Store) is needed here"},
		"no encryptor":  {one(fxmodule.Cache{Store: "memory://", Unsealed: true}), fxmodule.Module, fx.Invoke(func(*jobs.Encryptor) {}), "set \"jobs.keys_of\""},
		// The Config does not set Jobs, but the application uses the encryptor of jobs.
		"encryptor, no namespace":       {byURL, fxmodule.Module, fx.Invoke(func(*jobs.Encryptor) {}), "the namespace is missing"},
		"encryptor, reserved namespace": {one(fxmodule.Cache{KEK: kek, Namespace: "asynq"}), fxmodule.Decorator, fx.Options(provideStore(backing), fx.Invoke(func(*jobs.Encryptor) {})), "reserved for asynq's own keys"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.ErrorContains(t, fx.New(fx.NopLogger, quiet(), fx.Supply(c.config), c.module, c.options).Err(), c.want)
		})
	}
}

// An application that decorates *Caches changes nothing for the other parts.
func TestDecoratedCaches(t *testing.T) {
	t.Parallel()
	for _, c := range []*fxmodule.Caches{nil, {}} {
		var s store.StoreInterface
		var health *fxmodule.Health
		var got *fxmodule.Caches
		run(t, one(fxmodule.Cache{Store: "memory://", KEK: sealtest.KEKFile(t), Namespace: "shop"}), fx.Replace(c),
			fx.Populate(&s, &health, &got), fx.Invoke(func(*middleware.Store, *fxmodule.Keys, *jobs.Encryptor) {}))
		require.NoError(t, s.Set(t.Context(), "k", "v"))
		require.NoError(t, health.Check(t.Context()))
		require.Equal(t, c, got)
		require.NoError(t, got.Close())
		require.NoError(t, health.Check(t.Context()), "still open")
	}
}

// Without a default cache no store is provided without a name. The other caches work.
func TestNoDefaultCache(t *testing.T) {
	t.Parallel()
	var caches *fxmodule.Caches
	run(t, fxmodule.Config{Caches: map[string]fxmodule.Cache{"sessions": {Store: "memory://", Unsealed: true}}}, fx.Populate(&caches))
	require.Equal(t, []string{"sessions"}, caches.Names())
}

func TestNamed(t *testing.T) {
	t.Parallel()
	kek := sealtest.KEKFile(t)
	config := fxmodule.Config{Caches: map[string]fxmodule.Cache{
		"default":  {Store: "memory://", KEK: kek, Namespace: "default"},
		"sessions": {Store: "memory://", KEK: kek, Namespace: "sessions"},
		"insecure": {Store: "memory://", Unsealed: true, Namespace: "insecure"},
	}}
	var p struct {
		fx.In
		Default  store.StoreInterface
		Sessions store.StoreInterface `name:"sessions"`
		Sealed   *middleware.Store    `name:"sessions"`
		Insecure store.StoreInterface `name:"insecure"`
		Caches   *fxmodule.Caches
	}
	run(t, config, fxmodule.Named("sessions", "insecure"), fx.Populate(&p))
	require.Same(t, p.Sealed, p.Sessions)
	require.NotSame(t, p.Default, p.Sessions)
	_, isSealed := p.Insecure.(*middleware.Store)
	require.False(t, isSealed)
	sessions, err := p.Caches.Cache("sessions")
	require.NoError(t, err)
	require.Same(t, p.Sessions, sessions)
	_, err = p.Caches.Sealed("insecure")
	require.ErrorIs(t, err, fxmodule.ErrNoCache)
	_, err = p.Caches.Cache("nobody")
	require.ErrorIs(t, err, fxmodule.ErrNoCache)
}

// Several caches share the application's store, each in its namespace.
func TestNamedCachesOverTheApplicationsStore(t *testing.T) {
	t.Parallel()
	kek, backing := sealtest.KEKFile(t), newMemory(t)
	var caches *fxmodule.Caches
	start(t, decorated(fxmodule.Config{Caches: map[string]fxmodule.Cache{
		"default":  {KEK: kek, Namespace: "app"},
		"sessions": {KEK: kek, Namespace: "sessions"},
		"insecure": {Unsealed: true, Namespace: "insecure"},
	}}, backing, fx.Populate(&caches)))
	for name, key := range map[string]string{"default": "app:patient", "sessions": "sessions:patient"} {
		s, err := caches.Cache(name)
		require.NoError(t, err)
		requireSealed(t, s, backing, key)
	}
	insecure, err := caches.Cache("insecure")
	require.NoError(t, err)
	require.NoError(t, insecure.Set(t.Context(), "motd", "hello"))
	require.Equal(t, "hello", stored(t, backing, "insecure:motd"))
	require.NoError(t, insecure.Clear(t.Context()))
	require.Error(t, errOf(backing.Get(t.Context(), "insecure:motd")))
	require.NotEmpty(t, stored(t, backing, "app:patient"), "clearing one namespace leaves the others")
	require.NotEmpty(t, stored(t, backing, "sessions:patient"))
}

func errOf(_ any, err error) error { return err }

// Two caches of one namespace can exchange their entries. The log names both.
func TestSharedNamespaceIsLogged(t *testing.T) {
	t.Parallel()
	var l sealtest.Logs
	kek := sealtest.KEKFile(t)
	start(t, fx.New(fx.NopLogger, fx.Supply(l.Logger()), fxmodule.Module, fx.Supply(fxmodule.Config{Caches: map[string]fxmodule.Cache{
		"default": {Store: "memory://", KEK: kek, Namespace: "a"},
		"other":   {Store: "memory://?max_bytes=1MiB", KEK: kek, Namespace: "a"},
		"third":   {Store: "memory://", KEK: kek, Namespace: "third"},
	}})))
	require.Contains(t, l.String(), "cache=default other=other")
	require.NotContains(t, l.String(), "other=third")
}

func TestTelemetry(t *testing.T) {
	t.Parallel()
	reader, spans := sdkmetric.NewManualReader(), tracetest.NewSpanRecorder()
	meters := sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader))
	tracers := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans))
	var got store.StoreInterface
	var e *jobs.Encryptor
	run(t, one(fxmodule.Cache{Store: "memory://", KEK: sealtest.KEKFile(t), Namespace: "shop"}), fx.Populate(&got, &e),
		fx.Supply(fx.Annotate(meters, fx.As(new(metric.MeterProvider)))), fx.Supply(fx.Annotate(tracers, fx.As(new(trace.TracerProvider)))))
	require.NoError(t, got.Set(t.Context(), "k", "v"))
	_, err := e.Seal(t.Context(), jobs.Meta{Type: "t"}, nil)
	require.NoError(t, err)
	var collected metricdata.ResourceMetrics
	require.NoError(t, reader.Collect(t.Context(), &collected))
	var names []string
	for _, scope := range collected.ScopeMetrics {
		for _, m := range scope.Metrics {
			names = append(names, m.Name)
		}
	}
	require.Contains(t, names, "sealcache.operations")
	require.Contains(t, names, "sealcache.jobs")
	require.NotEmpty(t, spans.Ended())
}

func TestProvidedTypesPrintNames(t *testing.T) {
	t.Parallel()
	var caches *fxmodule.Caches
	var keys *fxmodule.Keys
	run(t, fxmodule.Config{Caches: map[string]fxmodule.Cache{
		"a": {Store: "memory://", KEK: sealtest.KEKFile(t), Namespace: "a"}, "b": {Store: "memory://", Unsealed: true, Namespace: "b"},
	}}, fx.Populate(&caches, &keys))
	require.Equal(t, "fxmodule.Caches(a, b)", fmt.Sprintf("%v", caches))
	require.Equal(t, "fxmodule.Caches(a, b)", fmt.Sprintf("%#v", caches))
	require.Equal(t, "fxmodule.Keys(1 caches, 1 keysets)", fmt.Sprintf("%#v", keys))
	var l sealtest.Logs
	l.Logger().Info("m", "caches", caches, "keys", keys)
	require.Contains(t, l.String(), `caches="fxmodule.Caches(a, b)" keys="fxmodule.Keys(1 caches, 1 keysets)"`)
	b, err := caches.Cache("b")
	require.NoError(t, err)
	require.NoError(t, b.(io.Closer).Close(), "as a sealed cache closes its backing store")
	_, err = b.Get(t.Context(), "k")
	require.ErrorIs(t, err, memorystore.ErrClosed)
}

func TestStartTwiceInOneProcess(t *testing.T) {
	t.Parallel()
	kek, backing := sealtest.KEKFile(t), newMemory(t)
	for range 2 {
		var got store.StoreInterface
		app := decorated(one(fxmodule.Cache{KEK: kek}), backing, fx.Populate(&got))
		require.NoError(t, app.Start(t.Context()))
		requireSealed(t, got, backing, "patient")
		require.NoError(t, app.Stop(context.Background()))
	}
}
