package jobs

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/tink-crypto/tink-go/v2/prf"
	"go.opentelemetry.io/otel/metric"

	"github.com/sealcache/sealcache/internal/nilcheck"
	"github.com/sealcache/sealcache/internal/options"
	"github.com/sealcache/sealcache/middleware/internal/reload"
	report "github.com/sealcache/sealcache/middleware/internal/telemetry"
	"github.com/sealcache/sealcache/middleware/internal/wire"
)

// defaultMaxPayloadBytes is Redis' own bound on a value (proto-max-bulk-len), less 64 KiB for what sealing adds.
const defaultMaxPayloadBytes = 512<<20 - 64<<10

// An Option changes what NewEncryptor returns. NewEncryptor checks all options at
// once.
type Option func(*config) error

type config struct {
	namespace string
	prf       *prf.Set
	compress  bool
	minBytes  int
	maxBytes  int
	optional  Binding
	reload    func(context.Context) error
	telemetry report.Config
}

// WithNamespace separates the jobs of applications or environments that share keys.
// Every value and token is bound to the namespace. It is 1 to 64 letters, digits, and
// "_", ".", "-". The default is none.
func WithNamespace(ns string) Option {
	return func(c *config) error {
		if err := wire.CheckNamespace(ns); err != nil {
			return err
		}
		c.namespace = ns
		return nil
	}
}

// WithPRF sets the keyed pseudorandom functions that make tokens, for unique jobs,
// hidden type names and schedules. aead.OpenPRF reads them. Each must return 32
// bytes, as HMAC-SHA256 and HKDF do and AES-CMAC does not. The set is copied.
//
// The primary key makes tokens. After it changes, a unique job that was enqueued
// before is not recognized as a duplicate. Add a new key everywhere before it becomes
// primary anywhere, or the schedules of one process are unknown to another. The key
// needs no frequent rotation.
func WithPRF(set *prf.Set) Option {
	return func(c *config) error {
		if set == nil {
			return errors.New("WithPRF: the set of PRF keys is nil (make the set with aead.OpenPRF)")
		}
		if nilcheck.IsNil(set.PRFs[set.PrimaryID]) {
			return fmt.Errorf("WithPRF: the set of PRF keys lacks its primary key, which has the id %d", set.PrimaryID)
		}
		copied := &prf.Set{PrimaryID: set.PrimaryID, PRFs: make(map[uint32]prf.PRF, len(set.PRFs))}
		for id, f := range set.PRFs {
			if nilcheck.IsNil(f) {
				return fmt.Errorf("WithPRF: the PRF key %d is nil", id)
			}
			if out, err := f.ComputePRF([]byte("sealcache probe"), wire.TagSize); err != nil || len(out) != wire.TagSize {
				return fmt.Errorf("WithPRF: the PRF key %d cannot return %d bytes (use a key of type HMAC-SHA256 or HKDF)", id, wire.TagSize)
			}
			copied.PRFs[id] = f
		}
		c.prf = copied
		return nil
	}
}

// WithCompression compresses values of at least minBytes bytes with zstd before they
// are sealed, if that makes them smaller. minBytes is at least 0; a few hundred is
// sensible. 0 compresses values of any size, where middleware.WithCompression(0) starts
// at 512 bytes. The default is off, because compression makes the length of a sealed value
// depend on its content. Leave it off where an attacker can choose part of a payload
// and see the length of the whole.
//
// Compressed values are opened with or without this option.
func WithCompression(minBytes int) Option {
	return func(c *config) error {
		if minBytes < 0 {
			return fmt.Errorf("WithCompression(%d): the size must not be negative", minBytes)
		}
		c.compress, c.minBytes = true, minBytes
		return nil
	}
}

// WithMaxPayloadBytes bounds the size of a value in bytes, before it is sealed and
// after it is opened and decompressed. A larger value is ErrTooLarge. The default is
// 64 KiB less than 512 MiB, which is Redis' own bound. n is 1 through math.MaxInt/2.
func WithMaxPayloadBytes(n int) Option {
	return func(c *config) error {
		if err := wire.CheckLimit(n); err != nil {
			return fmt.Errorf("WithMaxPayloadBytes: %w", err)
		}
		c.maxBytes = n
		return nil
	}
}

// WithOptionalBinding lets Open accept values that are not bound to the names in b although its
// Meta gives them. It is for a transition from values that were sealed without these names: such a
// value opens under any such name. The default is none.
func WithOptionalBinding(b Binding) Option {
	return func(c *config) error {
		if b&^(BindType|BindQueue|BindID) != 0 {
			return fmt.Errorf("WithOptionalBinding: the bits %#x are unknown (use BindType, BindQueue and BindID)", int(b))
		}
		c.optional = b
		return nil
	}
}

// WithReload sets the function that loads the keyset again. Open calls it when the
// keyset does not list the key of a value, because another process may have loaded the
// key first. Open also calls it when the keyset lists the key as disabled, because the
// key may have been enabled again. Open calls it at most once in ten seconds and never
// twice at a time, and then tries once more. The default is the AEAD's own method
// Reload. An Envelope has none: give it the Reload of the Keyring that is its KEK.
func WithReload(f func(context.Context) error) Option {
	return func(c *config) error {
		if f == nil {
			return reload.ErrNil
		}
		c.reload = f
		return nil
	}
}

// WithLogger sets the logger for refused values and failed reloads. At most a few lines are logged
// each second, without payloads and names. The default is slog.Default().
func WithLogger(l *slog.Logger) Option {
	return func(c *config) error { return c.telemetry.SetLogger(l) }
}

// WithMeterProvider makes the Encryptor report two OpenTelemetry metrics, with the
// namespace:
//
//   - sealcache.jobs, values by operation (seal, open), kind and outcome
//   - sealcache.jobs.other_key_reads, the counts of OtherKeyReads, by key id
//
// The default is none.
func WithMeterProvider(p metric.MeterProvider) Option {
	return func(c *config) error { return c.telemetry.SetMeterProvider(p) }
}

func newConfig(opts []Option) (*config, error) {
	c := &config{maxBytes: defaultMaxPayloadBytes}
	return c, options.Apply("", opts, func(o Option) error { return o(c) })
}
