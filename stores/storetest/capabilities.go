package storetest

import (
	"context"
	"errors"
	"iter"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/eko/gocache/lib/v4/store"
)

// The optional methods of a store, for [Capabilities]. Package middleware uses those that the store's method Capabilities
// lists. AtomicStore, TagExtender, BatchStore and TTLSetter need no declaration in Capabilities: the suite checks them if the
// store has them.
type (
	// Declarer names the interfaces below that the store implements, such as "Swapper", and store.SetIfNotExistsStore.
	// The owner is the store itself.
	Declarer interface {
		Capabilities() (owner any, names []string)
	}

	// Swapper replaces a value if it is the one that was read.
	Swapper interface {
		CompareAndSwap(ctx context.Context, key string, old []byte, tail int, next []byte, ttl time.Duration) (bool, error)
	}

	// AtomicStore deletes an entry, sets it again, or changes its TTL, if it is the one that was read.
	AtomicStore interface {
		GetBytesToSwap(ctx context.Context, key string, limit int) ([]byte, time.Duration, error)
		CompareAndSet(ctx context.Context, key string, old []byte, tail int, next []byte, options ...store.Option) (bool, error)
		CompareAndExpire(ctx context.Context, key string, old []byte, tail int, ttl time.Duration) (bool, error)
		CompareAndDelete(ctx context.Context, key string, old []byte, tail int) (bool, error)
	}

	// TagExtender makes the tags of an entry last as long as the entry.
	TagExtender interface {
		ExtendTags(ctx context.Context, key string, tags []string, ttl time.Duration) error
	}

	// BatchStore takes many keys in one call. Errors are in the order of keys, or nil if there are none.
	BatchStore interface {
		GetBytesMany(ctx context.Context, keys []string, limit int) (values [][]byte, errs []error)
		SetBytesMany(ctx context.Context, keys []string, values [][]byte, options ...store.Option) []error
		DeleteMany(ctx context.Context, keys []string) []error
	}

	// Enumerator names entries by the start of their name, and removes them.
	Enumerator interface {
		Keys(ctx context.Context, prefix string) iter.Seq2[string, error]
		ClearPrefix(ctx context.Context, prefix string) error
	}

	// BytesStore returns bytes that the caller may write into. It does not use value after SetBytes has returned nil.
	// After an error it may still read value.
	BytesStore interface {
		GetBytes(ctx context.Context, key string) ([]byte, error)
		GetBytesWithTTL(ctx context.Context, key string) ([]byte, time.Duration, error)
		SetBytes(ctx context.Context, key string, value []byte, options ...store.Option) error
	}

	// TTLSetter is a BytesStore that takes a TTL without options. The default options of the store do not count.
	TTLSetter interface {
		SetBytesWithTTL(ctx context.Context, key string, value []byte, ttl time.Duration) error
	}

	// BoundedReader refuses a value that is larger than limit before it reads it. The error has TooLarge() bool.
	BoundedReader interface {
		GetBytesMax(ctx context.Context, key string, limit int) ([]byte, error)
		GetBytesWithTTLMax(ctx context.Context, key string, limit int) ([]byte, time.Duration, error)
	}

	// PrefixInvalidator invalidates tags and refuses members whose names do not start with a prefix.
	PrefixInvalidator interface {
		InvalidatePrefix(ctx context.Context, prefix string, options ...store.InvalidateOption) error
	}

	// Defaulter returns the options that Set starts from.
	Defaulter interface {
		Defaults() store.Options
	}

	// Pinger reports whether the store answers.
	Pinger interface {
		Ping(ctx context.Context) error
	}

	// Counter returns the counts of the store by name.
	Counter interface {
		Counts() map[string]int64
	}

	// Adviser returns a text for each setting of the server that breaks a promise of the store.
	Adviser interface {
		Advice(ctx context.Context) ([]string, error)
	}

	// TagKeeper reports whether no tag is lost before its entries.
	TagKeeper interface {
		KeepsTags(ctx context.Context) (bool, error)
	}
)

// has reports whether a store implements an optional interface.
func has[T any](s store.StoreInterface) bool {
	_, ok := s.(T)
	return ok
}

// implemented returns the names of the optional interfaces that a store implements.
func implemented(s store.StoreInterface) []string {
	var names []string
	for _, optional := range []struct {
		name string
		has  bool
	}{
		{"Swapper", has[Swapper](s)},
		{"AtomicStore", has[AtomicStore](s)},
		{"TagExtender", has[TagExtender](s)},
		{"BatchStore", has[BatchStore](s)},
		{"Enumerator", has[Enumerator](s)},
		{"BytesStore", has[BytesStore](s)},
		{"TTLSetter", has[TTLSetter](s)},
		{"BoundedReader", has[BoundedReader](s)},
		{"PrefixInvalidator", has[PrefixInvalidator](s)},
		{"Defaulter", has[Defaulter](s)},
		{"Pinger", has[Pinger](s)},
		{"Adviser", has[Adviser](s)},
		{"Counter", has[Counter](s)},
		{"TagKeeper", has[TagKeeper](s)},
	} {
		if optional.has {
			names = append(names, optional.name)
		}
	}
	return names
}

// declarations compares what a store implements with Subject.Can and with what the store declares itself.
func declarations(t *testing.T, s *subject) {
	names := implemented(s.Store)
	for _, c := range []struct {
		name, implements string
		want             bool
	}{
		{"Swap", "Swapper", s.Can.Swap},
		{"Enumerate", "Enumerator", s.Can.Enumerate},
		{"OwnedBytes", "BytesStore", s.Can.OwnedBytes},
		{"BoundedRead", "BoundedReader", s.Can.BoundedRead},
		{"InvalidatePrefix", "PrefixInvalidator", s.Can.InvalidatePrefix},
		{"Ping", "Pinger", s.Can.Ping},
	} {
		declared(t, c.name, "the store implements middleware."+c.implements, slices.Contains(names, c.implements), c.want)
	}

	// A decorator always has the method, and returns this error if its backing store does not.
	setsNew := false
	nx, hasMethod := s.Store.(store.SetIfNotExistsStore)
	if hasMethod {
		_, err := nx.SetIfNotExists(t.Context(), "k", s.value("v"))
		setsNew = !errors.Is(err, store.ErrNotSupported)
	}
	declared(t, "SetIfNotExists", "the store supports SetIfNotExists", setsNew, s.Can.SetIfNotExists)

	d, ok := s.Store.(Declarer)
	if !ok {
		if len(names) > 0 {
			t.Errorf("package middleware ignores the interfaces %q, because the store does not implement middleware.CapableStore", names)
		}
		return
	}
	if hasMethod {
		names = append(names, "SetIfNotExistsStore")
	}
	owner, listed := d.Capabilities()
	switch o, v := reflect.ValueOf(owner), reflect.ValueOf(s.Store); {
	case v.Kind() != reflect.Pointer:
		t.Errorf("Subject.Store is a %T, want a pointer, which the method Capabilities returns as owner", s.Store)
	case !o.IsValid():
		t.Errorf("the method Capabilities returned nil as owner, want the store itself: the pointer in Subject.Store, a %T", s.Store)
	case o.Type() != v.Type():
		t.Errorf("the method Capabilities returned a %T as owner, want the store itself, which is a %T", owner, s.Store)
	case o.Pointer() != v.Pointer():
		t.Errorf("the method Capabilities returned another %T as owner, want the pointer in Subject.Store", owner)
	}
	for _, name := range names {
		if !slices.Contains(listed, name) {
			t.Errorf("the method Capabilities does not list %q, although the store implements it", name)
		}
	}
	for _, name := range listed {
		if !slices.Contains(names, name) {
			t.Errorf("the method Capabilities lists %q, although the store does not implement it", name)
		}
	}
}
