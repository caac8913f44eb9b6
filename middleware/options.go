package middleware

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/eko/gocache/lib/v4/store"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"github.com/sealcache/sealcache/middleware/internal/wire"
)

// DefaultMaxValueBytes is the default of WithMaxValueBytes: Redis' own bound
// on a value (proto-max-bulk-len), less 64 KiB for what sealing adds.
const DefaultMaxValueBytes = 512<<20 - 64<<10

// An Option changes what New makes. Options are checked in New, all of them at
// once, conflicts included.
type Option func(*config) error

type config struct {
	namespace     string
	codecs        []Codec // in the order given
	plaintext     PlaintextPolicy
	until         time.Time
	missOnFailure bool
	withoutClear  bool
	defaults      []store.Option
	maxValueBytes int
	logger        *slog.Logger
	meters        metric.MeterProvider
	tracers       trace.TracerProvider
	now           func() time.Time
}

// WithNamespace keeps the store's entries apart from everything else in the
// backing store: keys and tags are prefixed with ns and a colon, the namespace
// is bound into every value, and Clear deletes the namespace only (if the
// backing store can enumerate, else it is ErrUnsupported). A namespace is 1 to
// 64 letters, digits, and "_", ".", "-". Without one, names stay as they are,
// and Clear is the backing store's.
func WithNamespace(ns string) Option {
	return func(c *config) error {
		if err := wire.CheckNamespace(ns); err != nil {
			return err
		}
		c.namespace = ns
		return nil
	}
}

// WithCodec lets the store take values of one more type: those of the codec.
// Several codecs of different formats may be given; of one format a store has
// only one, because a stored value tells its format, not its Go type. For
// several types make several Stores over the same backing store: they share
// everything but the codec. A type that several codecs take is written by the
// first of them.
func WithCodec(codec Codec) Option {
	return func(c *config) error {
		if codec == nil {
			return errors.New("WithCodec: nil codec (Proto takes the pointer to one generated message type, no interface)")
		}
		f := wire.Type(codec.Format())
		if !f.Codec() {
			return fmt.Errorf("WithCodec: format %#02x is none of a codec: take FormatCustom to FormatCustomLast for your own", byte(f))
		}
		if c.codec(f) != nil {
			return fmt.Errorf("WithCodec: two codecs of format %s: make a second Store over the same backing store", f)
		}
		c.codecs = append(c.codecs, codec)
		return nil
	}
}

// codec is the codec of a format, or nil.
func (c *config) codec(f wire.Type) Codec {
	for _, codec := range c.codecs {
		if wire.Type(codec.Format()) == f {
			return codec
		}
	}
	return nil
}

// WithPlaintext sets what happens to values in clear. The default is
// RejectPlaintext. A policy that tolerates them should have an end: see
// WithPlaintextUntil.
func WithPlaintext(p PlaintextPolicy) Option {
	return func(c *config) error {
		if !p.Valid() {
			return fmt.Errorf("WithPlaintext: unknown policy %d", int(p))
		}
		c.plaintext = p
		return nil
	}
}

// WithPlaintextUntil ends the tolerance of WithPlaintext at t: from then on the
// store behaves as with RejectPlaintext, without a restart. A time in the past
// is allowed: a service that is restarted after the end must not fail.
func WithPlaintextUntil(t time.Time) Option {
	return func(c *config) error {
		if t.IsZero() {
			return errors.New("WithPlaintextUntil: zero time")
		}
		c.until = t
		return nil
	}
}

// WithMissOnOpenFailure makes an unreadable value (in clear, altered, under an
// unknown key, in an unknown format) count as a miss instead of an error, so
// that the application loads and writes it anew. Such misses are still counted
// and logged, and errors.Is still finds the reason behind store.NotFound. A key
// service that is down remains an error: the values behind it are sound.
func WithMissOnOpenFailure() Option {
	return func(c *config) error {
		c.missOnFailure = true
		return nil
	}
}

// WithoutClear makes Clear of a store without a namespace return ErrUnsupported, because the backing store's own Clear
// also removes the entries of its other users. A store with a namespace clears that namespace as before.
func WithoutClear() Option {
	return func(c *config) error {
		c.withoutClear = true
		return nil
	}
}

// WithDefaults sets options that Set and SetIfNotExists apply before those
// that they are given. The backing store's own defaults come before both.
func WithDefaults(opts ...store.Option) Option {
	return func(c *config) error {
		for _, o := range opts {
			if o == nil {
				return errors.New("WithDefaults: nil option")
			}
		}
		c.defaults = append(c.defaults, opts...)
		return nil
	}
}

// WithMaxValueBytes bounds the size of a value before sealing, in bytes; a
// larger one is ErrTooLarge. The default is DefaultMaxValueBytes. n is at least
// 1.
func WithMaxValueBytes(n int) Option {
	return func(c *config) error {
		if n < 1 {
			return fmt.Errorf("WithMaxValueBytes: %d: it takes at least 1", n)
		}
		c.maxValueBytes = n
		return nil
	}
}

// WithLogger sets where the store reports unreadable values and tolerated
// clear ones: at most a few lines a second, none of which holds a value or a
// key name. The default is slog.Default().
func WithLogger(l *slog.Logger) Option {
	return func(c *config) error {
		if l == nil {
			return errors.New("WithLogger: nil logger")
		}
		c.logger = l
		return nil
	}
}

// WithMeterProvider makes the store report OpenTelemetry metrics:
//
//   - sealcache.operations, by operation and outcome
//   - sealcache.operation.duration, in seconds, by operation, the backing
//     store's time included
//   - sealcache.plaintext, clear values by what was done with them: read,
//     written, resealed, reseal_failed
//
// All carry the namespace and the backing store's type. The default is none.
func WithMeterProvider(p metric.MeterProvider) Option {
	return func(c *config) error {
		if p == nil {
			return errors.New("WithMeterProvider: nil provider")
		}
		c.meters = p
		return nil
	}
}

// WithTracerProvider makes the store open an OpenTelemetry span for each
// operation, named as "sealcache.Get". The default is none.
func WithTracerProvider(p trace.TracerProvider) Option {
	return func(c *config) error {
		if p == nil {
			return errors.New("WithTracerProvider: nil provider")
		}
		c.tracers = p
		return nil
	}
}

func newConfig(opts []Option) (*config, error) {
	c := &config{maxValueBytes: DefaultMaxValueBytes, now: time.Now}
	var errs []error
	for _, o := range opts {
		if o == nil {
			errs = append(errs, errors.New("nil option"))
			continue
		}
		if err := o(c); err != nil {
			errs = append(errs, err)
		}
	}
	if !c.until.IsZero() && c.plaintext == RejectPlaintext {
		errs = append(errs, errors.New("WithPlaintextUntil has no meaning with RejectPlaintext: give WithPlaintext a policy that tolerates clear values, or drop it"))
	}
	if len(c.defaults) > 0 {
		if _, err := normalExpiration(store.ApplyOptions(c.defaults...).Expiration); err != nil {
			errs = append(errs, fmt.Errorf("WithDefaults: %w", err))
		}
	}
	if c.logger == nil {
		c.logger = slog.Default()
	}
	return c, errors.Join(errs...)
}
