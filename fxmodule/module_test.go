package fxmodule_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/eko/gocache/lib/v4/store"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/metric"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/fx"

	"github.com/sealcache/sealcache/fxmodule"
	"github.com/sealcache/sealcache/middleware"
	"github.com/sealcache/sealcache/middleware/jobs"
	"github.com/sealcache/sealcache/stores/memorystore"
)

// consumer is a service that takes the store in its constructor.
type consumer struct{ store store.StoreInterface }

func newConsumer(s store.StoreInterface) *consumer { return &consumer{s} }

// However the application's options are ordered, and whichever way it takes the store, it gets the sealed one.
func TestDefaultCacheIsSealedInEveryOrder(t *testing.T) {
	t.Parallel()
	kek := kekFile(t)
	for name, url := range map[string]string{"store of the application": "", "store by URL": "memory://"} {
		for order, arrange := range map[string]func(module, application fx.Option) fx.Option{
			"module first": func(m, a fx.Option) fx.Option { return fx.Options(m, a) },
			"module last":  func(m, a fx.Option) fx.Option { return fx.Options(a, m) },
		} {
			var got store.StoreInterface
			for way, take := range map[string]fx.Option{
				"populate":    fx.Populate(&got),
				"invoke":      fx.Invoke(func(s store.StoreInterface) { got = s }),
				"constructor": fx.Options(fx.Provide(newConsumer), fx.Invoke(func(c *consumer) { got = c.store })),
				"both types": fx.Invoke(func(m *middleware.Store, s store.StoreInterface) error {
					got = s
					if any(m) != any(s) {
						return errors.New("two stores where there is one")
					}
					return nil
				}),
				"in a module": fx.Module("inner", fx.Provide(newConsumer), fx.Invoke(func(c *consumer) { got = c.store })),
			} {
				t.Run(name+"/"+order+"/"+way, func(t *testing.T) {
					got = nil
					options := []fx.Option{take}
					backing := newMemory(t)
					if url == "" {
						options = append(options, provideStore(backing))
					} else if way == "in a module" {
						options = append(options, fxmodule.ProvideDefault) // see TestProvideDefault
					}
					start(t, fx.New(fx.NopLogger, quiet(), fx.Supply(one(fxmodule.Cache{Store: url, KEK: kek})),
						arrange(fxmodule.Module, fx.Options(options...))))
					require.IsType(t, (*middleware.Store)(nil), got)
					if url == "" {
						requireSealed(t, got, backing, "patient")
					} else {
						require.NoError(t, got.Set(t.Context(), "k", 42))
						v, err := got.Get(t.Context(), "k")
						require.NoError(t, err)
						require.Equal(t, 42, v)
					}
				})
			}
		}
	}
}

// What a decorator cannot reach is an error, never a store in clear, and ProvideDefault mends it.
func TestProvideDefault(t *testing.T) {
	t.Parallel()
	kek := kekFile(t)
	config := one(fxmodule.Cache{Store: "memory://", KEK: kek + "?reload=off"})
	take := fx.Module("early", fx.Invoke(func(store.StoreInterface) {}))
	err := fx.New(fx.NopLogger, quiet(), fx.Supply(config), take, fxmodule.Module).Err()
	require.ErrorContains(t, err, "missing type")
	run(t, config, take, fxmodule.ProvideDefault)

	backing := newMemory(t)
	err = newApp(one(fxmodule.Cache{KEK: kek}), fxmodule.ProvideDefault, provideStore(backing)).Err()
	require.ErrorContains(t, err, "already provided")
	err = newApp(one(fxmodule.Cache{KEK: kek}), fxmodule.ProvideDefault).Err()
	require.ErrorContains(t, err, "the application provides none")

	var alone store.StoreInterface
	require.NoError(t, fx.New(fx.NopLogger, fxmodule.ProvideDefault, fx.Populate(&alone)).Err())
	require.Equal(t, "none", alone.GetType())
	ctx := t.Context()
	_, getErr := alone.Get(ctx, "k")
	_, _, ttlErr := alone.GetWithTTL(ctx, "k")
	for _, err := range []error{getErr, ttlErr, alone.Set(ctx, "k", "v"), alone.Delete(ctx, "k"), alone.Invalidate(ctx), alone.Clear(ctx)} {
		require.ErrorContains(t, err, "without Module")
	}
}

// fx cannot say why a store is missing; the hint does.
func TestMissingStoreIsExplained(t *testing.T) {
	var l logs
	old := slog.Default()
	slog.SetDefault(l.logger())
	t.Cleanup(func() { slog.SetDefault(old) })
	config := one(fxmodule.Cache{Store: "memory://", Clear: true}) // fx leaves keys open if it fails
	require.ErrorContains(t, newApp(config, fx.Invoke(func(needy) {})).Err(), "missing type")
	named := fx.Invoke(fx.Annotate(func(store.StoreInterface) {}, fx.ParamTags(`name:"other"`)))
	require.ErrorContains(t, newApp(config, named).Err(), "missing type")
	require.NotContains(t, l.String(), "ProvideDefault", "not about anything else")

	take := fx.Module("inner", fx.Provide(newConsumer), fx.Invoke(func(*consumer) {}))
	require.ErrorContains(t, newApp(config, take).Err(), "missing type")
	require.Contains(t, l.String(), "list fxmodule.ProvideDefault beside fxmodule.Module")
}

// A provider in one of the application's own modules is decorated for everybody as well.
func TestStoreProvidedInAModule(t *testing.T) {
	t.Parallel()
	backing := newMemory(t)
	var inside, outside store.StoreInterface
	run(t, one(fxmodule.Cache{KEK: kekFile(t)}),
		fx.Module("infrastructure", provideStore(backing), fx.Invoke(func(s store.StoreInterface) { inside = s })),
		fx.Populate(&outside))
	require.Same(t, inside, outside)
	requireSealed(t, inside, backing, "patient")
}

// Inside an fx.Module, the decoration would not reach the rest of the application, which would go on in clear.
func TestModuleInsideAModuleIsRefused(t *testing.T) {
	t.Parallel()
	var got store.StoreInterface
	err := fx.New(fx.NopLogger, quiet(), fx.Supply(one(fxmodule.Cache{KEK: kekFile(t)})), provideStore(newMemory(t)),
		fx.Module("infrastructure", fxmodule.Module), fx.Populate(&got)).Err()
	require.ErrorContains(t, err, "should be passed to top-level App")
	require.Nil(t, got)
}

func TestValidateApp(t *testing.T) {
	t.Parallel()
	take := fx.Invoke(func(store.StoreInterface, *middleware.Store, *fxmodule.Caches, *fxmodule.Keys, *fxmodule.Health) {})
	config := fx.Supply(fxmodule.Config{})
	require.NoError(t, fx.ValidateApp(fx.NopLogger, config, fxmodule.Module, take))
	require.NoError(t, fx.ValidateApp(fx.NopLogger, config, take, fxmodule.Module, provideStore(nil)))
	require.ErrorContains(t, fx.ValidateApp(fx.NopLogger, fxmodule.Module), "missing type: fxmodule.Config")
}

func TestWhoProvidesTheStore(t *testing.T) {
	t.Parallel()
	kek := kekFile(t)
	var typedNil *memorystore.Store
	for name, c := range map[string]struct {
		config  fxmodule.Config
		provide store.StoreInterface
		cache   string
		want    string
	}{
		"nobody": {one(fxmodule.Cache{KEK: kek}), nil, "default", "the application provides none"},
		"nobody, a named cache": {fxmodule.Config{Caches: map[string]fxmodule.Cache{
			"default": {KEK: kek, Store: "memory://"}, "sessions": {KEK: kek},
		}}, nil, "sessions", "the application provides none"},
		"a nil pointer": {one(fxmodule.Cache{KEK: kek}), typedNil, "default", "the application provides none"},
		"both":          {one(fxmodule.Cache{KEK: kek, Store: "memory://"}), newMemory(t), "default", "drop the URL"},
		"both, clear":   {one(fxmodule.Cache{Clear: true, Store: "memory://"}), newMemory(t), "default", "drop the URL"},
		"no default": {fxmodule.Config{Caches: map[string]fxmodule.Cache{
			"sessions": {KEK: kek},
		}}, newMemory(t), "", "that no cache seals"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var options []fx.Option
			if c.provide != nil {
				options = append(options, provideStore(c.provide))
			}
			err := newApp(c.config, options...).Err()
			require.ErrorContains(t, err, c.want)
			if c.cache != "" {
				var failed *fxmodule.CacheError
				require.ErrorAs(t, err, &failed)
				require.Equal(t, c.cache, failed.Cache)
				require.Equal(t, fxmodule.PartStore, failed.Part)
			}
		})
	}
}

// A default in clear leaves the application's store as it is, because the Config says so.
func TestClearDefaultOverTheApplicationsStore(t *testing.T) {
	t.Parallel()
	backing := newMemory(t)
	var got store.StoreInterface
	run(t, one(fxmodule.Cache{Clear: true}), provideStore(backing), fx.Populate(&got))
	require.Same(t, backing, got)
	err := newApp(one(fxmodule.Cache{Clear: true}), provideStore(backing), fx.Invoke(func(*middleware.Store) {})).Err()
	require.ErrorIs(t, err, fxmodule.ErrNoCache)
	require.ErrorContains(t, err, "is clear")
}

// Without a default cache there is no unnamed store, and an application that takes one does not start.
func TestNoDefaultCache(t *testing.T) {
	t.Parallel()
	config := fxmodule.Config{Caches: map[string]fxmodule.Cache{"sessions": {Store: "memory://", Clear: true}}} // fx leaves keys open if it fails
	var caches *fxmodule.Caches
	run(t, config, fx.Populate(&caches))
	require.Equal(t, []string{"sessions"}, caches.Names())
	run(t, config, fxmodule.ProvideDefault)
	run(t, config, provideStore(newMemory(t))) // which nobody takes

	take := fx.Invoke(func(store.StoreInterface) { t.Error("got a store") })
	for name, options := range map[string]fx.Option{
		"nobody provides one":              take,
		"nobody provides one, in a module": fx.Module("inner", take),
		"ProvideDefault":                   fx.Options(fxmodule.ProvideDefault, take),
		"ProvideDefault, in a module":      fx.Options(fxmodule.ProvideDefault, fx.Module("inner", take)),
		"the application's":                fx.Options(provideStore(newMemory(t)), take),
		"the application's, in a module":   fx.Module("inner", provideStore(newMemory(t)), take),
		"optional": fx.Invoke(func(p struct {
			fx.In
			Store store.StoreInterface `optional:"true"`
		}) {
			t.Error("got", p.Store)
		}),
		"constructor": fx.Options(fxmodule.ProvideDefault, fx.Provide(newConsumer), fx.Invoke(func(*consumer) { t.Error("got a store") })),
	} {
		for order, all := range map[string]fx.Option{
			"module first": fx.Options(fxmodule.Module, options), "module last": fx.Options(options, fxmodule.Module),
		} {
			err := fx.New(fx.NopLogger, quiet(), fx.Supply(config), all).Err()
			if err != nil && strings.Contains(err.Error(), "missing type: store.StoreInterface") {
				continue
			}
			require.ErrorIs(t, err, fxmodule.ErrNoCache, "%s, %s", name, order)
			require.ErrorContains(t, err, `which is the cache named "default"; the Config has sessions`, "%s, %s", name, order)
		}
	}
	err := newApp(config, fx.Invoke(func(*middleware.Store) {})).Err()
	require.ErrorIs(t, err, fxmodule.ErrNoCache)
}

func TestNamed(t *testing.T) {
	t.Parallel()
	kek := kekFile(t)
	config := fxmodule.Config{Caches: map[string]fxmodule.Cache{
		"default":  {Store: "memory://", KEK: kek},
		"sessions": {Store: "memory://", KEK: kek, Namespace: "sessions"},
		"insecure": {Store: "memory://", Clear: true},
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
	require.IsType(t, (*memorystore.Store)(nil), p.Insecure)
	sessions, err := p.Caches.Cache("sessions")
	require.NoError(t, err)
	require.Same(t, p.Sessions, sessions)
	_, err = p.Caches.Sealed("insecure")
	require.ErrorIs(t, err, fxmodule.ErrNoCache)
	_, err = p.Caches.Cache("nobody")
	require.ErrorIs(t, err, fxmodule.ErrNoCache)

	take := fx.Invoke(fx.Annotate(func(store.StoreInterface) {}, fx.ParamTags(`name:"nobody"`)))
	require.ErrorIs(t, newApp(config, fxmodule.Named("nobody"), take).Err(), fxmodule.ErrNoCache)
	takeSealed := fx.Invoke(fx.Annotate(func(*middleware.Store) {}, fx.ParamTags(`name:"insecure"`)))
	require.ErrorIs(t, newApp(config, fxmodule.Named("insecure"), takeSealed).Err(), fxmodule.ErrNoCache)
	require.ErrorContains(t, newApp(config, fxmodule.Named("a\" b:\"c")).Err(), "Named")
}

// Three caches over the application's one store, kept apart by their namespaces.
func TestNamedCacheOverTheApplicationsStore(t *testing.T) {
	t.Parallel()
	kek, backing := kekFile(t), newMemory(t)
	var caches *fxmodule.Caches
	run(t, fxmodule.Config{Caches: map[string]fxmodule.Cache{
		"default":  {KEK: kek, Namespace: "app"},
		"sessions": {KEK: kek, Namespace: "sessions"},
		"insecure": {Clear: true, Namespace: "insecure"},
	}}, provideStore(backing), fx.Populate(&caches))
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
	require.Equal(t, 2, backing.Len(), "clearing one namespace leaves the others")
}

// A store that says nothing of itself but gocache's interface.
type opaque struct{ store.StoreInterface }

func TestClearCacheWithNamespaceAndTTL(t *testing.T) {
	t.Parallel()
	backing := newMemory(t)
	var got store.StoreInterface
	run(t, one(fxmodule.Cache{Clear: true, Namespace: "ns", TTL: time.Hour}), provideStore(backing), fx.Populate(&got))
	ctx := t.Context()
	require.NoError(t, got.Set(ctx, "a", "1", store.WithTags([]string{"t"})))
	require.NoError(t, backing.Set(ctx, "other", "x", store.WithTags([]string{"t"})))
	v, ttl, err := got.GetWithTTL(ctx, "a")
	require.NoError(t, err)
	require.Equal(t, "1", v)
	require.InDelta(t, time.Hour, ttl, float64(time.Minute))
	require.NoError(t, got.Set(ctx, "b", "2", store.WithExpiration(time.Minute)))
	_, ttl, err = got.GetWithTTL(ctx, "b")
	require.NoError(t, err)
	require.LessOrEqual(t, ttl, time.Minute)
	nx, ok := got.(store.SetIfNotExistsStore)
	require.True(t, ok)
	written, err := nx.SetIfNotExists(ctx, "a", "3")
	require.NoError(t, err)
	require.False(t, written)
	require.NoError(t, got.Invalidate(ctx, store.WithInvalidateTags([]string{"t"})))
	_, err = got.Get(ctx, "a")
	require.ErrorIs(t, err, store.NotFound{})
	require.Equal(t, "x", stored(t, backing, "other"), "tags are the namespace's")
	require.NoError(t, got.Delete(ctx, "b"))
	require.Equal(t, "memory", got.GetType())
	_, err = got.Get(ctx, 42)
	require.ErrorIs(t, err, middleware.ErrUnsupportedType)

	var plain store.StoreInterface
	run(t, one(fxmodule.Cache{Clear: true, Namespace: "ns"}), provideStore(opaque{backing}), fx.Populate(&plain))
	require.ErrorIs(t, plain.Clear(ctx), middleware.ErrUnsupported, "never more than the namespace")
	_, err = plain.(store.SetIfNotExistsStore).SetIfNotExists(ctx, "a", "3")
	require.ErrorIs(t, err, middleware.ErrUnsupported)
}

func TestOptionalInputs(t *testing.T) {
	t.Parallel()
	var l logs
	kek := kekFile(t)
	app := fx.New(fx.NopLogger, fx.Supply(l.logger()), fxmodule.Module, fx.Supply(fxmodule.Config{Caches: map[string]fxmodule.Cache{
		"default": {Store: "memory://", KEK: kek},
		"other":   {Store: "memory://?max_bytes=1MiB", KEK: kek},
		"third":   {Store: "memory://", KEK: kek, Namespace: "third"},
		"clear":   {Store: "memory://", Clear: true},
	}}))
	start(t, app)
	require.Contains(t, l.String(), "cache=default other=other", "values could be moved between these two")
	require.NotContains(t, l.String(), "other=third")
	require.NotContains(t, l.String(), "other=clear")
}

// What the module cannot seal it names. It seals everything else that it is listed with, in every scope.
func TestStoresThatTheModuleDoesNotSeal(t *testing.T) {
	t.Parallel()
	kek, backing := kekFile(t), newMemory(t)
	var l logs
	named := func(tag string) fx.Option {
		return fx.Provide(fx.Annotate(func() store.StoreInterface { return backing }, fx.ResultTags(tag)))
	}
	start(t, fx.New(fx.NopLogger, fx.Supply(l.logger()), fxmodule.Module, fxmodule.Named("sessions"), provideStore(backing),
		fx.Supply(fxmodule.Config{Caches: map[string]fxmodule.Cache{
			"default": {KEK: kek}, "sessions": {Store: "memory://", KEK: kek, Namespace: "s"},
		}}),
		named(`name:"mine"`), named(`group:"shards"`), fx.Module("inner", named(`name:"inner"`), named(`group:"shards"`))))
	require.Contains(t, l.String(), `stores="[group shards name inner name mine]"`)

	var none logs
	start(t, fx.New(fx.NopLogger, fx.Supply(none.logger()), fxmodule.Module, fxmodule.Named("default"), provideStore(backing),
		fx.Supply(one(fxmodule.Cache{KEK: kek}))))
	require.NotContains(t, none.String(), "leaves as they are")

	// A module that decorates for itself starts from the sealed store.
	var given, taken store.StoreInterface
	run(t, one(fxmodule.Cache{KEK: kek}), provideStore(backing), fx.Module("inner",
		fx.Decorate(func(s store.StoreInterface) store.StoreInterface { given = s; return opaque{s} }),
		fx.Invoke(func(s store.StoreInterface) { taken = s })))
	require.IsType(t, (*middleware.Store)(nil), given)
	requireSealed(t, taken, backing, "patient")
}

// needy is what no application here provides.
type needy struct{}

// dig leaves out an optional store that it cannot build. That must not pass for an application without one.
func TestApplicationStoreThatCannotBeBuilt(t *testing.T) {
	t.Parallel()
	kek := kekFile(t)
	err := newApp(one(fxmodule.Cache{KEK: kek}), fx.Provide(func(needy) store.StoreInterface { return nil })).Err()
	requireFailure(t, err, "default", fxmodule.PartStore)
	require.ErrorContains(t, err, "whose own needs fx cannot meet")
	failing := fx.Provide(func() (store.StoreInterface, error) { return nil, errBroken })
	require.ErrorIs(t, newApp(one(fxmodule.Cache{KEK: kek}), failing).Err(), errBroken)
}

func TestTelemetry(t *testing.T) {
	t.Parallel()
	reader, spans := sdkmetric.NewManualReader(), tracetest.NewSpanRecorder()
	meters := sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader))
	tracers := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans))
	var got store.StoreInterface
	var e *jobs.Encryptor
	run(t, one(fxmodule.Cache{Store: "memory://", KEK: kekFile(t)}), fx.Populate(&got, &e),
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

func TestWhatIsProvidedPrintsNames(t *testing.T) {
	t.Parallel()
	var caches *fxmodule.Caches
	var keys *fxmodule.Keys
	run(t, fxmodule.Config{Caches: map[string]fxmodule.Cache{
		"a": {Store: "memory://", KEK: kekFile(t)}, "b": {Store: "memory://", Clear: true, Namespace: "b"},
	}}, fx.Populate(&caches, &keys))
	require.Equal(t, "fxmodule.Caches(a, b)", fmt.Sprintf("%v", caches))
	require.Equal(t, "fxmodule.Caches(a, b)", fmt.Sprintf("%#v", caches))
	require.Equal(t, "fxmodule.Keys(1 caches, 1 keysets)", fmt.Sprintf("%#v", keys))
	var l logs
	l.logger().Info("m", "caches", caches, "keys", keys)
	require.Contains(t, l.String(), `caches="fxmodule.Caches(a, b)" keys="fxmodule.Keys(1 caches, 1 keysets)"`)
	b, err := caches.Cache("b")
	require.NoError(t, err)
	require.NoError(t, b.(io.Closer).Close(), "as a sealed one closes its backing store")
	_, err = b.Get(t.Context(), "k")
	require.ErrorIs(t, err, memorystore.ErrClosed)
}

// Without a logger of its own, an application sees fx's on stderr as ever.
func TestFxLogsToStderr(t *testing.T) {
	read, write, err := os.Pipe()
	require.NoError(t, err)
	old := os.Stderr
	os.Stderr = write // what fx writes to
	app := fx.New(quiet(), fx.Supply(one(fxmodule.Cache{Clear: true})), provideStore(newMemory(t)), fxmodule.Module, fx.Invoke(func() error {
		return errors.New("100% certain")
	}))
	os.Stderr = old
	require.NoError(t, write.Close())
	said, err := io.ReadAll(read)
	require.NoError(t, err)
	require.Error(t, app.Err())
	require.Contains(t, string(said), "[Fx] SUPPLY\tfxmodule.Config\n")
	require.Contains(t, string(said), "100% certain\n")
	require.NoError(t, read.Close())
}

func TestStartTwiceInOneProcess(t *testing.T) {
	t.Parallel()
	kek, backing := kekFile(t), newMemory(t)
	for range 2 {
		var got store.StoreInterface
		app := newApp(one(fxmodule.Cache{KEK: kek}), provideStore(backing), fx.Populate(&got))
		require.NoError(t, app.Start(t.Context()))
		requireSealed(t, got, backing, "patient")
		require.NoError(t, app.Stop(context.Background()))
	}
}
