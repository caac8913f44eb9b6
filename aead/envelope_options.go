package aead

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	tinkaead "github.com/tink-crypto/tink-go/v2/aead"
	tinkpb "github.com/tink-crypto/tink-go/v2/proto/tink_go_proto"
	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/sealcache/sealcache/internal/options"
)

const (
	// defaultMaxMessages is a quarter of the 2^32 messages that NIST SP 800-38D allows with random nonces. The chance
	// of a repeated nonce is then below 2^-37 per data key. 100,000 messages a second reach it in three hours.
	defaultMaxMessages = 1 << 30
	// maxMaxMessages is that bound itself.
	maxMaxMessages = maxRandomNonces
	// defaultMaxBytes is 1 TiB, 2^36 blocks. An attacker's advantage against AES-GCM is then about 2^-57, which TLS 1.3
	// accepts too (RFC 8446, section 5.5).
	defaultMaxBytes = 1 << 40
	// maxMaxBytes is 2^48 bytes; beyond it the same advantage passes 2^-41.
	maxMaxBytes = 1 << 48
	// defaultMaxAge bounds how long a process seals under a data key after its KEK was revoked or rotated. It costs
	// one wrap per process and day, and one more data key per day for readers to unwrap.
	defaultMaxAge = 24 * time.Hour
	// defaultDataKeyCache is generous: a process reads one data key per writing process and day of data, and more if
	// processes are short-lived. If more are in use than are held, nearly every read calls the KEK.
	defaultDataKeyCache = 16384
	maxDataKeyCache     = 1 << 20
	// defaultDataKeyTTL is a compromise. A shorter time shreds data earlier after its KEK is destroyed. A longer
	// time needs fewer calls, and lets reads survive longer outages. They survive up to an hour, and at least a
	// quarter of the time for data keys in use.
	defaultDataKeyTTL = time.Hour
)

// EnvelopeOption is an option of NewEnvelope.
type EnvelopeOption interface {
	applyEnvelope(c *envelopeConfig) error
}

type envelopeConfig struct {
	maxMessages uint64
	maxBytes    uint64
	maxAge      time.Duration
	template    *tinkpb.KeyTemplate
	cache       int
	ttl         time.Duration
	log         *slog.Logger
	tenants     func(ctx context.Context, id string) (tink.AEADWithContext, error)
	ownTenants  bool // the KEKs of tenants are the Envelope's to close

	wrapContext       map[string]string   // nil is none
	otherWrapContexts []map[string]string // nil is none
}

type envelopeOption func(c *envelopeConfig) error

func (o envelopeOption) applyEnvelope(c *envelopeConfig) error { return o(c) }

// WithMaxMessages sets how many messages one data key may seal, from 1 to 2^32. 2^32 is the bound for random 96-bit nonces
// (NIST SP 800-38D, section 8.3). An outage does not extend it. The default is 2^30.
func WithMaxMessages(n uint64) EnvelopeOption {
	return envelopeOption(func(c *envelopeConfig) error {
		if n < 1 || n > maxMaxMessages {
			return fmt.Errorf("aead: WithMaxMessages(%d): the number of messages must be from 1 to 2^32", n)
		}
		c.maxMessages = n
		return nil
	})
}

// WithMaxBytes sets how many bytes of plaintext one data key may seal, from 1 to 2^48. It is also the length of the longest
// message. An outage does not extend it. The default is 2^40 (1 TiB), which keeps an attacker's advantage below 2^-57 (RFC
// 8446, section 5.5).
func WithMaxBytes(n uint64) EnvelopeOption {
	return envelopeOption(func(c *envelopeConfig) error {
		if n < 1 || n > maxMaxBytes {
			return fmt.Errorf("aead: WithMaxBytes(%d): the number of bytes must be from 1 to 2^48", n)
		}
		c.maxBytes = n
		return nil
	})
}

// WithMaxAge sets how long a data key may seal after it was wrapped; it must be positive. It bounds how long a process keeps
// sealing under a KEK that was revoked or rotated. It also bounds how long writes survive an outage of the key service:
// between a quarter of it and all of it. The default is 24 hours.
//
// Time for which the machine is suspended counts. It is noticed up to a minute after the machine resumes, or a quarter of
// WithDataKeyTTL if that is less. Until then, the age and the TTL may be exceeded.
func WithMaxAge(d time.Duration) EnvelopeOption {
	return envelopeOption(func(c *envelopeConfig) error {
		if d <= 0 {
			return fmt.Errorf("aead: WithMaxAge(%v): the duration must be positive", d)
		}
		c.maxAge = d
		return nil
	})
}

// WithDataKeyTemplate sets the type of the data keys. Tink's KMS envelope allows AES-GCM, AES-CTR-HMAC, AES-GCM-SIV,
// ChaCha20-Poly1305 and XChaCha20-Poly1305. The ciphertext does not name the type, so all processes that share data must
// agree on it. The default, AES256-GCM, is also the fastest.
func WithDataKeyTemplate(t *tinkpb.KeyTemplate) EnvelopeOption {
	return envelopeOption(func(c *envelopeConfig) error {
		if !envelopeKeyType(t.GetTypeUrl()) {
			return fmt.Errorf("aead: WithDataKeyTemplate: Tink's KMS envelope does not allow data keys of type %q (choose another)", shortType(t.GetTypeUrl()))
		}
		c.template = t
		return nil
	})
}

// WithDataKeyCache sets how many unwrapped data keys are held for reading, from 1 to 2^20. The data key that seals is held
// next to them. The default is 16384; each data key takes about a kilobyte.
func WithDataKeyCache(n int) EnvelopeOption {
	return envelopeOption(func(c *envelopeConfig) error {
		if n < 1 || n > maxDataKeyCache {
			return fmt.Errorf("aead: WithDataKeyCache(%d): the number of data keys must be from 1 to 2^20", n)
		}
		c.cache = n
		return nil
	})
}

// WithDataKeyTTL sets how long a data key opens values after the KEK last wrapped or unwrapped it; it must be positive. If
// the data key is in use after three quarters of the TTL, the KEK is asked again in the background. So no request waits.
// If the KEK refuses, the data key is dropped at once. If the KEK cannot be reached, the data key is not extended.
//
// The TTL is therefore the delay of crypto-shredding: running processes can read values for this long after their KEK was
// destroyed. It is also the longest outage of the key service that reads survive. The default is one hour.
func WithDataKeyTTL(d time.Duration) EnvelopeOption {
	return envelopeOption(func(c *envelopeConfig) error {
		if d <= 0 {
			return fmt.Errorf("aead: WithDataKeyTTL(%v): the duration must be positive", d)
		}
		c.ttl = d
		return nil
	})
}

// CheckEnvelopeOptions returns the error that NewEnvelope would return for opts, without a key-encryption key. It is for
// programs that check a configuration before they open keys.
func CheckEnvelopeOptions(opts ...EnvelopeOption) error {
	_, err := envelopeConfigOf(opts)
	return err
}

// envelopeConfigOf applies and checks all options.
func envelopeConfigOf(opts []EnvelopeOption) (*envelopeConfig, error) {
	c := &envelopeConfig{
		maxMessages: defaultMaxMessages,
		maxBytes:    defaultMaxBytes,
		maxAge:      defaultMaxAge,
		template:    tinkaead.AES256GCMKeyTemplate(),
		cache:       defaultDataKeyCache,
		ttl:         defaultDataKeyTTL,
		log:         slog.Default(),
	}
	return c, options.Apply("aead: NewEnvelope: ", opts, func(o EnvelopeOption) error { return o.applyEnvelope(c) })
}
