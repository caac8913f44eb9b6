package jobs

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/tink-crypto/tink-go/v2/prf"
	"go.opentelemetry.io/otel/metric"

	"github.com/sealcache/sealcache/middleware/internal/wire"
)

const (
	// DefaultMaxPayloadBytes is the default of WithMaxPayloadBytes: Redis' own
	// bound on a value (proto-max-bulk-len), less 64 KiB for what sealing adds.
	DefaultMaxPayloadBytes = 512<<20 - 64<<10

	// MaxNamespaceBytes bounds the length of a namespace.
	MaxNamespaceBytes = wire.MaxNamespaceBytes
)

// An Option changes what NewEncryptor makes. Options are checked there, all of
// them at once.
type Option func(*config) error

type config struct {
	namespace string
	prf       *prf.Set
	compress  bool
	minBytes  int
	maxBytes  int
	optional  Binding
	reload    func(context.Context) error
	logger    *slog.Logger
	meters    metric.MeterProvider
}

// WithNamespace keeps the jobs of several applications or environments apart that
// share keys: the namespace is bound into every value and token. It is 1 to 64
// letters, digits, and "_", ".", "-". The default is none.
func WithNamespace(ns string) Option {
	return func(c *config) error {
		if err := wire.CheckNamespace(ns); err != nil {
			return err
		}
		c.namespace = ns
		return nil
	}
}

// WithPRF gives the keyed pseudorandom functions (aead.OpenPRF reads them) of
// which tokens are made: for unique jobs, hidden type names and schedules. Each
// must be able to give 32 bytes, which HMAC-SHA256 and HKDF can and AES-CMAC
// cannot. The set is copied.
//
// Tokens are made with the primary key. When it changes, a unique job that was
// enqueued before is not recognised as a duplicate of one enqueued after; add the
// new key everywhere before it becomes primary anywhere, or the schedules of one
// process are unknown to another. Unique jobs run wherever they
// are opened. There is no reason to rotate it as often as an encryption key.
func WithPRF(set *prf.Set) Option {
	return func(c *config) error {
		if set == nil {
			return errors.New("WithPRF: nil set: open one with aead.OpenPRF")
		}
		if set.PRFs[set.PrimaryID] == nil {
			return fmt.Errorf("WithPRF: the set has no primary key (%d)", set.PrimaryID)
		}
		copied := &prf.Set{PrimaryID: set.PrimaryID, PRFs: make(map[uint32]prf.PRF, len(set.PRFs))}
		for id, f := range set.PRFs {
			if f == nil {
				return fmt.Errorf("WithPRF: key %d is nil", id)
			}
			if out, err := f.ComputePRF([]byte("sealcache probe"), wire.TagSize); err != nil || len(out) != wire.TagSize {
				return fmt.Errorf("WithPRF: key %d does not give %d bytes: take HMAC-SHA256 or HKDF, not AES-CMAC", id, wire.TagSize)
			}
			copied.PRFs[id] = f
		}
		c.prf = copied
		return nil
	}
}

// WithCompression compresses values of at least minBytes bytes with zstd before
// they are sealed, if that makes them smaller. minBytes is at least 0; a few
// hundred is sensible. The default is off, because the length of a sealed value
// then depends on its content: leave it off where an attacker can choose part of
// a payload and see the length of the whole.
//
// Compressed values are opened with or without this option.
func WithCompression(minBytes int) Option {
	return func(c *config) error {
		if minBytes < 0 {
			return fmt.Errorf("WithCompression: %d: it takes at least 0", minBytes)
		}
		c.compress, c.minBytes = true, minBytes
		return nil
	}
}

// WithMaxPayloadBytes bounds the size of a value, in bytes, before it is sealed
// and after it is opened and decompressed; a larger one is ErrTooLarge. The
// default is DefaultMaxPayloadBytes. n is at least 1.
func WithMaxPayloadBytes(n int) Option {
	return func(c *config) error {
		if n < 1 {
			return fmt.Errorf("WithMaxPayloadBytes: %d: it takes at least 1", n)
		}
		c.maxBytes = n
		return nil
	}
}

// WithOptionalBinding lets Open accept values that are not bound to the names in
// b although its Meta gives them. It is for a time of transition, when values
// that were sealed without them must still open: such a value opens under any
// name of that sort. The default is none: Open accepts no value that is bound to
// less than its Meta.
func WithOptionalBinding(b Binding) Option {
	return func(c *config) error {
		if b&^(BindType|BindQueue|BindID) != 0 {
			return fmt.Errorf("WithOptionalBinding: unknown names %#x", int(b))
		}
		c.optional = b
		return nil
	}
}

// WithReload gives what Open does when a value was sealed under a key that the
// keyset does not list: it calls reload, at most once in ten seconds and never
// twice at a time, and tries once more. Another process may have had the new
// keyset first. The usual reload is (*aead.Keyring).Reload.
//
// Without this option the AEAD's own Reload is used if it has one. A Keyring has; an
// Envelope has none, so that over an Envelope nothing is reloaded without this option:
// give the Reload of the Keyring that is its KEK.
func WithReload(reload func(context.Context) error) Option {
	return func(c *config) error {
		if reload == nil {
			return errors.New("WithReload: nil function")
		}
		c.reload = reload
		return nil
	}
}

// WithLogger sets where refused values and failed reloads are reported: at most a
// few lines a second, none of which holds a payload or a job's names. The default
// is slog.Default().
func WithLogger(l *slog.Logger) Option {
	return func(c *config) error {
		if l == nil {
			return errors.New("WithLogger: nil logger")
		}
		c.logger = l
		return nil
	}
}

// WithMeterProvider makes the Encryptor report the OpenTelemetry metric
// sealcache.jobs: values by operation (seal, open), kind and outcome, with the
// namespace. The default is none.
func WithMeterProvider(p metric.MeterProvider) Option {
	return func(c *config) error {
		if p == nil {
			return errors.New("WithMeterProvider: nil provider")
		}
		c.meters = p
		return nil
	}
}

func newConfig(opts []Option) (*config, error) {
	c := &config{maxBytes: DefaultMaxPayloadBytes}
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
	if c.logger == nil {
		c.logger = slog.Default()
	}
	return c, errors.Join(errs...)
}
