package storetest

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/eko/gocache/lib/v4/cache"
	"github.com/eko/gocache/lib/v4/codec"
	"github.com/eko/gocache/lib/v4/marshaler"
	"github.com/eko/gocache/lib/v4/store"
)

// patience bounds the time that a busy machine may take, for instance for gocache's background writes.
const patience = time.Minute

func throughCases() []testCase {
	return []testCase{
		{
			name: "through cache.Cache",
			rule: "for each type T that the store accepts as a value, every method of a cache made with cache.New[T] works",
			run: func(t *testing.T, s *subject) {
				if s.Can.Bytes.taken() {
					throughCache(t, s, []byte("bytes \x00\xff"))
				}
				if s.Can.Strings.taken() {
					throughCache(t, s, "a string")
				}
				if s.Can.Scalars == AsGiven {
					throughCache(t, s, int64(-42))
					throughCache(t, s, 42)
					throughCache(t, s, 1.5)
					throughCache(t, s, true)
					throughCache(t, s, false)
				}
			},
		},
		{
			name: "through cache.Cache, another type",
			rule: "reading a value as another type is an error, never a zero value",
			why: func(c Capabilities) string {
				return unless(c.Scalars == AsGiven, "Subject.Can.Scalars is not AsGiven, so numbers may lose their types")
			},
			run: func(t *testing.T, s *subject) {
				noError(t, "Set", cache.New[int64](s.Store).Set(t.Context(), "k", 42))
				if _, err := cache.New[float64](s.Store).Get(t.Context(), "k"); !errors.Is(err, cache.ErrValueTypeMismatch) {
					t.Errorf("Set stored an int64, but Get through cache.New[float64] returned %s, want one that wraps cache.ErrValueTypeMismatch\n(Get of the store must return the int64, from which gocache makes this error)", errorText(err))
				}
			},
		},
		{
			name: "through cache.Loadable",
			rule: "a LoadableCache loads an absent value once, writes it to the store, and loads again after Invalidate. Get returns the value, or the error of the load function",
			run: func(t *testing.T, s *subject) {
				if s.Can.Bytes.taken() {
					throughLoadable(t, s, func(text string) []byte { return []byte(text) })
				} else {
					throughLoadable(t, s, func(text string) string { return text })
				}
			},
		},
		{
			name: "through cache.Chain",
			rule: "a ChainCache sets and deletes entries of the store. It copies entries that the upper level lacks to that level, with the remaining TTL",
			run: func(t *testing.T, s *subject) {
				if s.Can.Bytes.taken() {
					throughChain(t, s, func(text string) []byte { return []byte(text) })
				} else {
					throughChain(t, s, func(text string) string { return text })
				}
			},
		},
		{
			name: "through cache.Metric",
			rule: "a MetricCache counts hits and misses, under the store's type",
			run: func(t *testing.T, s *subject) {
				if s.Can.Bytes.taken() {
					throughMetric(t, s, []byte("v"))
				} else {
					throughMetric(t, s, "v")
				}
			},
		},
		{
			name: "through marshaler.Cache",
			rule: "a cache made with marshaler.NewCache[T] returns the struct that was set, or that a LoadableCache over it has loaded",
			why:  takesBytes,
			run:  throughMarshaler,
		},
	}
}

func throughCache[T any](t *testing.T, s *subject, value T) {
	t.Helper()
	ctx := t.Context()
	c := cache.New[T](s.Store)
	key := fmt.Sprintf("cache.New[%T]", value)
	if _, err := c.Get(ctx, key); err == nil {
		t.Errorf("%s: Get of an absent key returned no error, want one", key)
	}
	noError(t, key+": Set", c.Set(ctx, key, value, store.WithTags([]string{key})))
	got, err := c.Get(ctx, key)
	if err != nil || !reflect.DeepEqual(got, value) {
		t.Errorf("%s: Get %s, want %s, which was set", key, outcome(typed(got), err), typed(value))
	}
	got, _, err = c.GetWithTTL(ctx, key)
	if err != nil || !reflect.DeepEqual(got, value) {
		t.Errorf("%s: GetWithTTL %s, want %s, which was set", key, outcome(typed(got), err), typed(value))
	}
	if s.Can.SetIfNotExists {
		if written, err := c.SetIfNotExists(ctx, key, value); err != nil || written {
			t.Errorf("%s: SetIfNotExists of an existing key %s, want false and no error", key, outcome(fmt.Sprint(written), err))
		}
		if written, err := c.SetIfNotExists(ctx, key+"-new", value); err != nil || !written {
			t.Errorf("%s: SetIfNotExists of an absent key %s, want true and no error", key, outcome(fmt.Sprint(written), err))
		}
	} else if _, err := c.SetIfNotExists(ctx, key, value); !errors.Is(err, store.ErrNotSupported) {
		t.Errorf("%s: SetIfNotExists returned %s, want an error that wraps store.ErrNotSupported\n(because Subject.Can does not declare SetIfNotExists)", key, errorText(err))
	}
	type structKey struct{ ID int }
	// gocache hashes keys that are not strings before the store sees them.
	const hashed = " with a struct as key (gocache gives the store a hash of it)"
	noError(t, key+": Set"+hashed, c.Set(ctx, structKey{1}, value))
	if got, err := c.Get(ctx, structKey{1}); err != nil || !reflect.DeepEqual(got, value) {
		t.Errorf("%s: Get with a struct as key %s, want %s, which was set", key, outcome(typed(got), err), typed(value))
	}
	if s.Can.Tags {
		noError(t, key+": Invalidate", c.Invalidate(ctx, store.WithInvalidateTags([]string{key})))
		if _, err := c.Get(ctx, key); err == nil {
			t.Errorf("%s: Invalidate did not remove the entry with the tag", key)
		}
	}
	noError(t, key+": Delete"+hashed, c.Delete(ctx, structKey{1}))
	if _, err := c.Get(ctx, structKey{1}); err == nil {
		t.Errorf("%s: Delete did not remove the entry", key)
	}
	noError(t, key+": Clear", c.Clear(ctx))
	if through, direct := c.GetCodec().GetStore().GetType(), s.Store.GetType(); through != direct {
		t.Errorf("%s: GetType() returned %q, and %q through the cache, want the same text at each call", key, direct, through)
	}
}

func throughLoadable[T any](t *testing.T, s *subject, value func(string) T) {
	var loads atomic.Int32
	failure := errors.New("storetest: the load function fails on purpose")
	below := cache.New[T](s.Store)
	c := cache.NewLoadable(func(_ context.Context, key any) (T, []store.Option, error) {
		loads.Add(1)
		if key == "fails" {
			return value(""), nil, failure
		}
		return value("loaded " + key.(string)), []store.Option{store.WithTags([]string{"loaded"})}, nil
	}, below)
	closeAfter(t, c)

	loaded := func() {
		t.Helper()
		if got, err := c.Get(t.Context(), "k"); err != nil {
			t.Errorf("Get through gocache's LoadableCache failed: %v", err)
		} else if textOf(got) != "loaded k" {
			t.Errorf("Get through gocache's LoadableCache returned %s, want \"loaded k\", the result of the load function\n(check what Get returns for an absent entry, and what Set stores)", shown(textOf(got)))
		}
	}
	if _, err := c.Get(t.Context(), "fails"); !errors.Is(err, failure) {
		t.Errorf("Get through gocache's LoadableCache returned %s, want one that wraps the error of the load function\n(check what Get returns for an absent entry)", errorText(err))
	}
	loads.Store(0)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(loaded)
	}
	wg.Wait()
	eventually(t, patience, "the store holds the value that gocache's LoadableCache loaded in a Get", func() bool {
		got, err := below.Get(t.Context(), "k")
		return err == nil && textOf(got) == "loaded k"
	})
	loaded()
	if n := loads.Load(); n != 1 {
		t.Errorf("gocache's LoadableCache called its load function %d times for nine Gets of one key, want once\n(a Get did not find what Set stored)", n)
	}
	if !s.Can.Tags {
		return
	}
	// Close waits for the running write, so that a store that tags in a second step has written the tags too.
	noError(t, "Close", c.Close())
	noError(t, "Invalidate", c.Invalidate(t.Context(), store.WithInvalidateTags([]string{"loaded"})))
	loaded()
	if n := loads.Load(); n != 2 {
		t.Errorf("after Invalidate of the loaded value's tag and one more Get, gocache's LoadableCache called its load function %d times\n(want twice: once before Invalidate and once after it)", n)
	}
}

func throughChain[T any](t *testing.T, s *subject, value func(string) T) {
	upper := newLevel()
	first, second := cache.New[T](upper), cache.New[T](s.Store)
	c := cache.NewChain[T](first, second)
	closeAfter(t, c)

	if _, err := c.Get(t.Context(), "absent"); err == nil {
		t.Error("Get of an absent key through gocache's ChainCache returned no error, want one")
	}
	noError(t, "Set through gocache's ChainCache", c.Set(t.Context(), "both", value("v"), store.WithTags([]string{"tag"})))
	s.holds(t, "Set through gocache's ChainCache", "both", "v")
	s.set(t, "eternal", "lower")
	options := []store.Option{}
	if s.Can.TTL.PerEntry {
		options = append(options, store.WithExpiration(time.Hour))
	}
	s.set(t, "mortal", "lower", options...)
	for _, key := range []string{"eternal", "mortal"} {
		if got, err := c.Get(t.Context(), key); err != nil || textOf(got) != "lower" {
			t.Fatalf("Get of key %q through gocache's ChainCache %s, want \"lower\", which was set in the store", key, outcome(shown(textOf(got)), err))
		}
		eventually(t, patience, "gocache's ChainCache has copied the value to its upper level", func() bool {
			got, err := first.Get(t.Context(), key)
			return err == nil && textOf(got) == "lower"
		})
	}
	if ttl := upper.expiration("eternal"); s.Can.TTL.None <= 0 && ttl > 0 || s.Can.TTL.None == 0 && ttl != 0 {
		t.Errorf("for an entry without expiration, gocache's ChainCache got the TTL %v from GetWithTTL\n(want %v, which Subject.Can.TTL.None declares)", ttl, s.Can.TTL.None)
	}
	if ttl := upper.expiration("mortal"); s.Can.TTL.Reported && (ttl <= 0 || ttl > time.Hour+s.Can.TTL.Resolution) {
		t.Errorf("for an entry with a TTL of one hour, gocache's ChainCache got the TTL %v from GetWithTTL, want one hour", ttl)
	}
	noError(t, "Delete through gocache's ChainCache", c.Delete(t.Context(), "both"))
	s.lacks(t, "Delete through gocache's ChainCache", "both")
}

func throughMetric[T any](t *testing.T, s *subject, value T) {
	var recorded metrics
	c := cache.NewMetric[T](&recorded, cache.New[T](s.Store))
	if _, err := c.Get(t.Context(), "k"); err == nil {
		t.Error("Get of an absent key through gocache's MetricCache returned no error, want one")
	}
	noError(t, "Set through gocache's MetricCache", c.Set(t.Context(), "k", value))
	for range 2 {
		if got, err := c.Get(t.Context(), "k"); err != nil || !reflect.DeepEqual(got, value) {
			t.Errorf("Get through gocache's MetricCache %s, want %s, which was set", outcome(shown(textOf(got)), err), shown(textOf(value)))
		}
	}
	if recorded.hits != 2 || recorded.misses != 1 {
		t.Errorf("gocache's MetricCache counted %d hits and %d misses in two Gets of an entry and one of an absent key\n(want 2 hits and 1 miss)", recorded.hits, recorded.misses)
	}
	if label := s.Store.GetType(); recorded.label != label {
		t.Errorf("GetType() returned %q to gocache's MetricCache, but now %q, want the same text at each call", recorded.label, label)
	}
}

type record struct {
	ID    int
	Name  string
	Blob  []byte
	Inner map[string]float64
}

func throughMarshaler(t *testing.T, s *subject) {
	want := record{ID: 7, Name: "a name", Blob: []byte{0, 255}, Inner: map[string]float64{"pi": 3.14}}
	c := marshaler.NewCache[record](cache.New[[]byte](s.Store))
	noError(t, "Set", c.Set(t.Context(), "k", want))
	if got, err := c.Get(t.Context(), "k"); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("Get through gocache's marshaler.Cache %s\n(want %+v, which was set)", outcome(fmt.Sprintf("%+v", got), err), want)
	}
	if got, _, err := c.GetWithTTL(t.Context(), "k"); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("GetWithTTL through gocache's marshaler.Cache %s\n(want %+v, which was set)", outcome(fmt.Sprintf("%+v", got), err), want)
	}
	loadable := cache.NewLoadable(func(context.Context, any) (record, []store.Option, error) { return want, nil, nil }, c)
	closeAfter(t, loadable)
	if got, err := loadable.Get(t.Context(), "loaded"); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("Get of an absent key through gocache's LoadableCache over marshaler.Cache %s\n(want %+v, which the load function returned)", outcome(fmt.Sprintf("%+v", got), err), want)
	}
	eventually(t, patience, "the store holds the struct that gocache's LoadableCache loaded in a Get", func() bool {
		got, err := c.Get(t.Context(), "loaded")
		return err == nil && reflect.DeepEqual(got, want)
	})
}

// metrics is a gocache metrics sink that keeps the last values.
type metrics struct {
	hits, misses int
	label        string
}

func (m *metrics) RecordFromCodec(c codec.CodecInterface) {
	m.hits, m.misses, m.label = c.GetStats().Hits, c.GetStats().Miss, c.GetStore().GetType()
}

// level is the upper level of a chain: a map that remembers the expirations it was given. It has only the methods that a Chain
// calls.
type level struct {
	store.StoreInterface

	mu      sync.Mutex
	values  map[string]any
	expires map[string]time.Duration
}

func newLevel() *level {
	return &level{values: map[string]any{}, expires: map[string]time.Duration{}}
}

func (l *level) expiration(key string) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.expires[key]
}

func (l *level) Get(ctx context.Context, key any) (any, error) {
	v, _, err := l.GetWithTTL(ctx, key)
	return v, err
}

func (l *level) GetWithTTL(_ context.Context, key any) (any, time.Duration, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	v, ok := l.values[key.(string)]
	if !ok {
		return nil, 0, store.NotFoundWithCause(nil)
	}
	return v, l.expires[key.(string)], nil
}

func (l *level) Set(_ context.Context, key, value any, options ...store.Option) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.values[key.(string)] = value
	l.expires[key.(string)] = store.ApplyOptions(options...).Expiration
	return nil
}

func (l *level) Delete(_ context.Context, key any) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.values, key.(string))
	return nil
}

func (l *level) GetType() string { return "level" }
