package middleware

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/eko/gocache/lib/v4/store"
	"github.com/tink-crypto/tink-go/v2/prf"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"github.com/sealcache/sealcache/internal/nilcheck"
	"github.com/sealcache/sealcache/internal/options"
	"github.com/sealcache/sealcache/middleware/internal/content"
	"github.com/sealcache/sealcache/middleware/internal/reload"
	report "github.com/sealcache/sealcache/middleware/internal/telemetry"
	"github.com/sealcache/sealcache/middleware/internal/wire"
)

// DefaultMaxValueBytes is the default of WithMaxValueBytes: Redis' own bound on a
// value (proto-max-bulk-len), less 64 KiB for what sealing adds.
const DefaultMaxValueBytes = 512<<20 - 64<<10

// An Option changes what New and NewSealer return. They check all options at once,
// conflicts included.
type Option func(*config) error

type config struct {
	namespace     string
	codecs        []Codec // in the order given
	plaintext     PlaintextPolicy
	until         time.Time
	missOnFailure bool
	withoutClear  bool
	reload        func(context.Context) error
	defaults      []store.Option
	maxValueBytes int
	boundReads    bool // WithMaxValueBytes was given
	sealExpiry    bool
	hidden        *prf.Set // nil: names are not hidden
	oneWay        bool     // the key is not sealed with the value
	compression   content.Codec
	minCompressed int
	padding       bool
	telemetry     report.Config
	now           func() time.Time
	storeOptions  []string // the options given that need a store
}

// forStore marks an option that NewSealer refuses.
func (c *config) forStore(name string) { c.storeOptions = append(c.storeOptions, name) }

// WithNamespace separates the store's entries from everything else in the backing
// store. Keys and tags get the prefix ns and a colon, each value is bound to the
// namespace, and Clear deletes the namespace only. A namespace is 1 to 64
// letters, digits, and "_", ".", "-". It does not start with "gocache_tag_" or
// "freecache_tag_", which start the names of tags' lists. Without a namespace,
// names stay as they are, and Clear is the backing store's own.
func WithNamespace(ns string) Option {
	return func(c *config) error {
		if err := CheckNamespace(ns); err != nil {
			return err
		}
		c.namespace = ns
		return nil
	}
}

// WithCodec adds a codec, so that the store accepts values of its type. A stored
// value names its format and not its Go type, so a store can have only one codec
// of each format. For several types, make several Stores over one backing store.
// If several codecs accept a type, the first one encodes it.
func WithCodec(codec Codec) Option {
	return func(c *config) error {
		if nilcheck.IsNil(codec) {
			return errors.New("WithCodec: the codec is nil, or the type argument of Proto is not a pointer to a message")
		}
		f := wire.Type(codec.Format())
		if !f.Codec() {
			return fmt.Errorf("WithCodec: the format %#02x is reserved (use a format from FormatCustom through FormatCustomLast)", byte(f))
		}
		if codecOf(c.codecs, f) != nil {
			return fmt.Errorf("WithCodec: two codecs have the format %s, but a Store allows only one per format (use two Stores)", f)
		}
		c.codecs = append(c.codecs, codec)
		return nil
	}
}

// WithPlaintext sets what happens to plaintext values. The default is
// RejectPlaintext. If you set another policy, also set its end with
// WithPlaintextUntil.
func WithPlaintext(p PlaintextPolicy) Option {
	return func(c *config) error {
		c.forStore("WithPlaintext")
		if !p.Valid() {
			return fmt.Errorf("WithPlaintext: the policy %d is unknown (use a constant such as ReadPlaintext)", int(p))
		}
		c.plaintext = p
		return nil
	}
}

// WithPlaintextUntil ends the policy of WithPlaintext at t. Without such a policy it is an
// error, where asynqjobs.WithPlaintextUntil accepts plaintext until t. From t on the store
// behaves as with RejectPlaintext, without a restart. The end is final, even if
// the clock is set back. t may be in the past, because a service that restarts
// after the end must not fail.
func WithPlaintextUntil(t time.Time) Option {
	return func(c *config) error {
		c.forStore("WithPlaintextUntil")
		if t.IsZero() {
			return errors.New("WithPlaintextUntil: the time must not be zero")
		}
		c.until = t
		return nil
	}
}

// WithMissOnOpenFailure makes an unreadable value count as a miss, so that the
// application loads and writes it again. A value is unreadable if it is
// plaintext, altered, too large, under an unknown key, or in an unknown format.
// The Store counts and logs such misses, and errors.Is finds the reason behind
// store.NotFound. ErrKeyServiceUnavailable stays an error, because the values may
// be sound.
func WithMissOnOpenFailure() Option {
	return func(c *config) error {
		c.forStore("WithMissOnOpenFailure")
		c.missOnFailure = true
		return nil
	}
}

// WithReload sets the function that reloads the keyset. SetIfNotExists calls it
// before it replaces a refused entry, because another process may have sealed
// the entry under a newer key. So do SetIfExists, Increment, Update, Touch and
// GetAndDelete. They call it at most once in ten seconds. Until the next reload,
// they keep other refused entries and return an error. The reload then decides
// about every entry that was met before it. The default is the method Reload of
// the AEAD, if it has one. An Envelope has none, so give the Reload of its Keyring.
func WithReload(f func(context.Context) error) Option {
	return func(c *config) error {
		c.forStore("WithReload")
		if f == nil {
			return reload.ErrNil
		}
		c.reload = f
		return nil
	}
}

// WithoutClear makes Clear of a store without a namespace return ErrUnsupported, because the backing store's own Clear
// also removes the entries of its other users. A store with a namespace clears that namespace as before.
func WithoutClear() Option {
	return func(c *config) error {
		c.forStore("WithoutClear")
		c.withoutClear = true
		return nil
	}
}

// WithDefaults sets options that Set and SetIfNotExists apply before the
// options of the call. The defaults of the backing store are applied first.
func WithDefaults(opts ...store.Option) Option {
	return func(c *config) error {
		c.forStore("WithDefaults")
		for _, o := range opts {
			if o == nil {
				return errors.New("WithDefaults: a store.Option is nil")
			}
		}
		c.defaults = append(c.defaults, opts...)
		return nil
	}
}

// WithMaxValueBytes bounds the size of a value before sealing, in bytes. A larger
// value is ErrTooLarge, both for Set and for Get. Over a BoundedReader, Get does
// not read more than the bound and what sealing adds; over other stores it checks
// after reading. The default is DefaultMaxValueBytes. n is 1 through math.MaxInt/2.
//
// The option also bounds a plaintext value that a codec decodes. Without the option, that bound is 1 MiB,
// because nothing has authenticated the value. ReadPlaintext says how much memory such a value can take.
func WithMaxValueBytes(n int) Option {
	return func(c *config) error {
		if err := wire.CheckLimit(n); err != nil {
			return fmt.Errorf("WithMaxValueBytes: %w", err)
		}
		c.maxValueBytes, c.boundReads = n, true
		return nil
	}
}

// WithLogger sets the logger for unreadable values, failed writes, accepted
// plaintext and differing keys. It gets a few lines a second at most, without
// values and key names. The default is slog.Default().
func WithLogger(l *slog.Logger) Option {
	return func(c *config) error { return c.telemetry.SetLogger(l) }
}

// WithMeterProvider makes the store report OpenTelemetry metrics, with the
// namespace and the backing store's type:
//
//   - sealcache.operations, by operation and outcome
//   - sealcache.operation.duration, in seconds, by operation, the backing
//     store's time included
//   - sealcache.batch_keys, the keys of GetMany, SetMany and DeleteMany, by
//     operation and outcome
//   - sealcache.plaintext, plaintext values by action: read,
//     written, resealed, reseal_failed, changed
//   - sealcache.refused_writes, writes that failed, by outcome
//   - sealcache.key_checks, comparisons of keys by Check, by outcome: same,
//     created, renewed, differ, unavailable, failed, unsupported
//   - sealcache.other_key_reads, the counts of OtherKeyReads, by key id
//
// If the backing store is a Counter, the store also reports those of its counts that are
// known: sealcache.store.batches, combined, waiting, near_hits, near_misses and near_bytes.
//
// The default is none.
func WithMeterProvider(p metric.MeterProvider) Option {
	return func(c *config) error { return c.telemetry.SetMeterProvider(p) }
}

// WithTracerProvider makes the store open an OpenTelemetry span for each
// operation, with a name such as "sealcache.Get". The default is none.
func WithTracerProvider(p trace.TracerProvider) Option {
	return func(c *config) error { return c.telemetry.SetTracerProvider(p) }
}

// CheckOptions returns the error that New would return for opts, without a store and keys. It is for programs that check a
// configuration before they open these. New may refuse further options for the store that it gets.
func CheckOptions(opts ...Option) error {
	if _, err := newConfig(opts); err != nil {
		return fmt.Errorf("middleware: CheckOptions: %w", err)
	}
	return nil
}

func newConfig(opts []Option) (*config, error) {
	c := &config{maxValueBytes: DefaultMaxValueBytes, now: time.Now}
	errs := []error{options.Apply("", opts, func(o Option) error { return o(c) })}
	if !c.until.IsZero() && c.plaintext == RejectPlaintext {
		errs = append(errs, errors.New("WithPlaintextUntil needs WithPlaintext with a policy that accepts plaintext"))
	}
	if c.hidden != nil && c.plaintext != RejectPlaintext {
		errs = append(errs, errHiddenPlaintext)
	}
	if len(c.defaults) > 0 {
		if _, err := normalExpiration(store.ApplyOptions(c.defaults...).Expiration); err != nil {
			errs = append(errs, fmt.Errorf("WithDefaults: %w", err))
		}
	}
	return c, errors.Join(errs...)
}
