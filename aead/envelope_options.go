package aead

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	tinkaead "github.com/tink-crypto/tink-go/v2/aead"
	tinkpb "github.com/tink-crypto/tink-go/v2/proto/tink_go_proto"
)

const (
	// defaultMaxMessages leaves a factor of four to the 2^32 messages that NIST SP 800-38D allows with random nonces:
	// the chance of a repeated nonce is then below 2^-37 per data key. At 100,000 messages a second it is three hours.
	defaultMaxMessages = 1 << 30
	// maxMaxMessages is that bound itself.
	maxMaxMessages = maxRandomNonces
	// defaultMaxBytes is 1 TiB, 2^36 blocks: an attacker's advantage against AES-GCM is then about 2^-57, which is what
	// TLS 1.3 settles for (RFC 8446, section 5.5).
	defaultMaxBytes = 1 << 40
	// maxMaxBytes is 2^48 bytes; beyond it the same advantage passes 2^-41.
	maxMaxBytes = 1 << 48
	// defaultMaxAge bounds for how long a process seals under a data key after its KEK was revoked or rotated, at a
	// price of one call a day and process, and of one more data key a day to be unwrapped by readers.
	defaultMaxAge = 24 * time.Hour
	// defaultDataKeyCache is generous: a process meets one data key per writing process and day of data, more where
	// processes are short-lived. If more are in use than are held, nearly every read calls the KEK.
	defaultDataKeyCache = 16384
	maxDataKeyCache     = 1 << 20
	// defaultDataKeyTTL is the delay of crypto-shredding against the number of calls and the outage that reading
	// survives: an hour at most, and a quarter of it at least for data keys in use, since they are confirmed ahead.
	defaultDataKeyTTL = time.Hour
)

// EnvelopeOption sets something that NewEnvelope leaves to a default.
type EnvelopeOption func(*envelopeOptions)

type envelopeOptions struct {
	maxMessages uint64
	maxBytes    uint64
	maxAge      time.Duration
	template    *tinkpb.KeyTemplate
	cache       int
	ttl         time.Duration
	log         *slog.Logger
}

// WithMaxMessages is how many messages one data key may seal, from 1 to 2^32, the bound for random 96-bit nonces (NIST
// SP 800-38D, section 8.3). It is never passed, whatever the outage. The default is 2^30.
func WithMaxMessages(n uint64) EnvelopeOption {
	return func(o *envelopeOptions) { o.maxMessages = n }
}

// WithMaxBytes is how many bytes of plaintext one data key may seal, and so the longest message too, from 1 to 2^48. It
// is never passed. The default is 2^40, 1 TiB, which keeps an attacker's advantage below 2^-57 (RFC 8446, section 5.5).
func WithMaxBytes(n uint64) EnvelopeOption {
	return func(o *envelopeOptions) { o.maxBytes = n }
}

// WithMaxAge is for how long after it was wrapped a data key may seal. It bounds how long a process keeps sealing under
// a KEK that has been revoked or rotated, and how long writes survive an outage of the key service: between a quarter
// of it and all of it. It must be positive. The default is 24 hours.
//
// Time for which the machine is suspended counts, but is noticed up to a minute after it wakes (a quarter of
// WithDataKeyTTL, if that is less); in that minute both of these times may be passed.
func WithMaxAge(d time.Duration) EnvelopeOption {
	return func(o *envelopeOptions) { o.maxAge = d }
}

// WithDataKeyTemplate is the kind of data key that is made, one of those that Tink's KMS envelope allows: AES-GCM,
// AES-CTR-HMAC, AES-GCM-SIV, ChaCha20-Poly1305, XChaCha20-Poly1305. The ciphertext does not tell them apart, so all
// who share data must agree on the key type. The default, AES256-GCM, is also the fast one.
func WithDataKeyTemplate(t *tinkpb.KeyTemplate) EnvelopeOption {
	return func(o *envelopeOptions) { o.template = t }
}

// WithDataKeyCache is how many unwrapped data keys are held for reading, from 1 to 2^20. The one in use for sealing is
// held beside them. The default is 16384, at about a kilobyte for each that is really held.
func WithDataKeyCache(n int) EnvelopeOption {
	return func(o *envelopeOptions) { o.cache = n }
}

// WithDataKeyTTL is for how long a data key opens values after the KEK last wrapped or unwrapped it; it must be
// positive. From three quarters of it on, the KEK is asked again in the background if the data key is in use, so that
// no request waits. If the KEK refuses, the data key is dropped at once; if the KEK cannot be reached, it is not
// extended.
//
// It is therefore the delay of crypto-shredding: values stay readable to running processes for so long after their KEK
// was destroyed. It is also the longest outage of the key service that reads survive. The default is one hour.
func WithDataKeyTTL(d time.Duration) EnvelopeOption {
	return func(o *envelopeOptions) { o.ttl = d }
}

// WithLogger says where new data keys and failures of the key service are logged. No key is. The default is
// slog.Default().
func WithLogger(log *slog.Logger) EnvelopeOption {
	return func(o *envelopeOptions) { o.log = log }
}

func envelopeOptionsOf(opts []EnvelopeOption) (*envelopeOptions, error) {
	o := &envelopeOptions{
		maxMessages: defaultMaxMessages,
		maxBytes:    defaultMaxBytes,
		maxAge:      defaultMaxAge,
		template:    tinkaead.AES256GCMKeyTemplate(),
		cache:       defaultDataKeyCache,
		ttl:         defaultDataKeyTTL,
	}
	for _, opt := range opts {
		if opt == nil {
			return nil, errors.New("aead: nil EnvelopeOption")
		}
		opt(o)
	}
	var errs []error
	if o.maxMessages < 1 || o.maxMessages > maxMaxMessages {
		errs = append(errs, fmt.Errorf("aead: WithMaxMessages(%d): from 1 to 2^32 are allowed", o.maxMessages))
	}
	if o.maxBytes < 1 || o.maxBytes > maxMaxBytes {
		errs = append(errs, fmt.Errorf("aead: WithMaxBytes(%d): from 1 to 2^48 are allowed", o.maxBytes))
	}
	if o.maxAge <= 0 {
		errs = append(errs, fmt.Errorf("aead: WithMaxAge(%v): must be positive", o.maxAge))
	}
	if o.cache < 1 || o.cache > maxDataKeyCache {
		errs = append(errs, fmt.Errorf("aead: WithDataKeyCache(%d): from 1 to 2^20 are allowed", o.cache))
	}
	if o.ttl <= 0 {
		errs = append(errs, fmt.Errorf("aead: WithDataKeyTTL(%v): must be positive", o.ttl))
	}
	if !envelopeKeyType(o.template.GetTypeUrl()) {
		errs = append(errs, fmt.Errorf("aead: WithDataKeyTemplate: %q is not a data key type of Tink's KMS envelope (AES-GCM, AES-CTR-HMAC, AES-GCM-SIV, ChaCha20-Poly1305, XChaCha20-Poly1305)", shortType(o.template.GetTypeUrl())))
	}
	if o.log == nil {
		o.log = slog.Default()
	}
	return o, errors.Join(errs...)
}
