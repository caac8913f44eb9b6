package fxmodule

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"

	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/internal/keyconfig"
	"github.com/sealcache/sealcache/internal/options"
)

// Keys are the keys of the sealed caches. It is safe for concurrent use, and closed when the application stops.
type Keys struct {
	byCache map[string]*aead.Envelope
	rings   map[string]*aead.Keyring        // by cache: the local keyset that wraps its data keys
	chains  map[string][]*aead.Keyring      // by cache: the same, and the KEK above it if that is a local keyset too
	all     []*aead.Keyring                 // each once, a keyset after the KEK that it is sealed under
	keks    map[string]aead.KEK             // by URI
	kekOf   map[string]tink.AEADWithContext // by cache: its KEK, or the set of its KEKs
	closers []io.Closer                     // in the order of opening
}

// Envelope returns the AEAD of the named cache, for anything else that its keys should seal. For a cache with a tenant it is
// the Envelope of all tenants: call its method Tenant to seal as the cache does. The error is ErrNoCache for an unsealed
// cache.
func (k *Keys) Envelope(cache string) (*aead.Envelope, error) {
	e, ok := k.byCache[cache]
	if !ok {
		return nil, fmt.Errorf("%w: the Config has no sealed cache %s", ErrNoCache, showName(cache))
	}
	return e, nil
}

// aead returns the AEAD that seals the named cache: its Envelope, or the AEAD of its tenant.
func (k *Keys) aead(cache, tenant string) (tink.AEADWithContext, error) {
	e, err := k.Envelope(cache)
	if err != nil || tenant == "" {
		return e, err
	}
	return e.Tenant(tenant)
}

// Keyring returns the keyset that wraps the data keys of the named cache, to list or reload its keys. The error is
// ErrNoCache if a key service or a passphrase wraps them.
func (k *Keys) Keyring(cache string) (*aead.Keyring, error) {
	r, ok := k.rings[cache]
	if !ok {
		return nil, fmt.Errorf("%w: cache %s is missing or unsealed, or has no keyset", ErrNoCache, showName(cache))
	}
	return r, nil
}

// Reload reads every keyset again without waiting for its interval. If a keyset cannot be read, the old one stays in
// service.
func (k *Keys) Reload(ctx context.Context) error {
	var errs []error
	for _, r := range k.all {
		errs = append(errs, r.Reload(ctx))
	}
	return errors.Join(errs...)
}

// String returns the numbers of caches and keysets.
func (k *Keys) String() string {
	return fmt.Sprintf("fxmodule.Keys(%d caches, %d keysets)", len(k.byCache), len(k.all))
}

// GoString returns String.
func (k *Keys) GoString() string { return k.String() }

// LogValue returns String.
func (k *Keys) LogValue() slog.Value { return slog.StringValue(k.String()) }

// check reports a keyset of the named cache that its KEK refuses, or that replaced all keys at once.
func (k *Keys) check(cache string) error {
	var errs []error
	for _, ring := range k.chains[cache] {
		errs = append(errs, ring.Check())
	}
	return errors.Join(errs...)
}

// close closes everything in reverse order: an envelope before the keyset that wraps its data keys.
func (k *Keys) close() error {
	var errs []error
	for i := len(k.closers) - 1; i >= 0; i-- {
		errs = append(errs, k.closers[i].Close())
	}
	k.closers = nil
	return errors.Join(errs...)
}

// openKeys opens the keys of all sealed caches. It opens keys that caches share only once. If it fails, nothing stays open.
func openKeys(ctx context.Context, c Config, log *slog.Logger, openers []aead.KEKOpener) (*Keys, error) {
	o := keyOpener{
		keys: &Keys{
			byCache: make(map[string]*aead.Envelope),
			rings:   make(map[string]*aead.Keyring),
			chains:  make(map[string][]*aead.Keyring),
			keks:    make(map[string]aead.KEK),
			kekOf:   make(map[string]tink.AEADWithContext),
		},
		openers: openers, log: log,
		keyrings:  make(map[keyringID]*aead.Keyring),
		envelopes: make(map[envelopeID]*aead.Envelope),
		sets:      make(map[string]*aead.KEKSet),
	}
	for _, name := range c.names() {
		cache := c.Caches[name]
		if cache.Unsealed {
			continue
		}
		if err := o.open(ctx, name, cache); err != nil {
			return nil, errors.Join(&CacheError{name, PartKeys, err}, o.keys.close())
		}
	}
	return o.keys, nil
}

type keyOpener struct {
	keys      *Keys
	openers   []aead.KEKOpener
	log       *slog.Logger
	keyrings  map[keyringID]*aead.Keyring
	envelopes map[envelopeID]*aead.Envelope
	sets      map[string]*aead.KEKSet // by the URIs of the members
}

// keyringID and envelopeID are the settings by which keyrings and envelopes are shared.
type keyringID struct {
	keks, keyset, name   string
	reload, cryptoperiod time.Duration
}

type envelopeID struct {
	keyring    keyringID
	limits     DataKeys
	tenantKEKs string
	context    string // its text, with the state
}

func (o *keyOpener) open(ctx context.Context, name string, c Cache) error {
	wrapping, keks, err := o.openKEKs(ctx, c)
	if err != nil {
		return err
	}
	id := keyringID{keks: kekID(c), keyset: c.Keyset, name: c.KeysetName, reload: c.KeysetReload, cryptoperiod: c.Cryptoperiod}
	o.keys.kekOf[name] = wrapping
	ring, _ := keks[0].(*aead.Keyring)
	for _, kek := range keks {
		if r, ok := kek.(*aead.Keyring); ok {
			o.keys.chains[name] = append(o.keys.chains[name], r)
		}
	}
	if c.Keyset != "" {
		if ring, err = o.openKeyring(ctx, id, c, wrapping); err != nil {
			return err
		}
		o.keys.chains[name] = append(o.keys.chains[name], ring)
		wrapping = ring
	}
	shared := envelopeID{id, c.DataKeys, c.TenantKEKs, fmt.Sprintf("%q %s", c.WrapContext, c.WrapContextState)}
	envelope, ok := o.envelopes[shared]
	if !ok {
		opts := []aead.EnvelopeOption{aead.WithLogger(o.log)}
		for _, s := range c.envelopeSettings() {
			opts = append(opts, s.option)
		}
		opts = append(opts, keyconfig.WrapContext(c.WrapContext, c.WrapContextState)...)
		if c.TenantKEKs != "" {
			opts = append(opts, aead.WithTenantKEKs(c.TenantKEKs, o.openers...))
		}
		if envelope, err = aead.NewEnvelope(ctx, wrapping, opts...); err != nil {
			return err
		}
		o.envelopes[shared] = envelope
		o.keys.closers = append(o.keys.closers, envelope)
	}
	o.keys.byCache[name] = envelope
	if ring != nil {
		o.keys.rings[name] = ring
	}
	return nil
}

// kekID names the KEKs of a cache. A URI has no line ends.
func kekID(c Cache) string { return strings.Join(append([]string{c.KEK}, c.OtherKEKs...), "\n") }

// openKEKs opens the KEK of a cache and its other KEKs. kek is the first, or the set of all.
func (o *keyOpener) openKEKs(ctx context.Context, c Cache) (kek tink.AEADWithContext, all []aead.KEK, err error) {
	var others []tink.AEADWithContext
	for i, uri := range append([]string{c.KEK}, c.OtherKEKs...) {
		k, err := o.openKEK(ctx, uri)
		if err != nil && i > 0 {
			return nil, nil, fmt.Errorf("open a key of the setting \"other_keks\": %w", err)
		}
		if err != nil {
			return nil, nil, err
		}
		all = append(all, k)
		if i > 0 {
			others = append(others, k)
		}
	}
	if len(others) == 0 {
		return all[0], all, nil
	}
	set, ok := o.sets[kekID(c)]
	if !ok {
		if set, err = aead.NewKEKSet(all[0], others...); err != nil {
			return nil, nil, err
		}
		o.sets[kekID(c)] = set // holds no resources, so that nothing closes it
	}
	return set, all, nil
}

func (o *keyOpener) openKEK(ctx context.Context, uri string) (aead.KEK, error) {
	if kek, ok := o.keys.keks[uri]; ok {
		return kek, nil
	}
	kek, err := aead.OpenKEKWithLogger(ctx, uri, o.log, o.openers...)
	if err != nil {
		return nil, err
	}
	o.keys.keks[uri] = kek
	o.keys.closers = append(o.keys.closers, kek)
	if ring, ok := kek.(*aead.Keyring); ok {
		o.keys.all = append(o.keys.all, ring)
	}
	return kek, nil
}

func (o *keyOpener) openKeyring(ctx context.Context, id keyringID, c Cache, kek tink.AEADWithContext) (*aead.Keyring, error) {
	if ring, ok := o.keyrings[id]; ok {
		return ring, nil
	}
	source, err := keysetSource(c.Keyset)
	if err != nil {
		return nil, err
	}
	opts := append(keysetName(c.KeysetName), aead.WithLogger(o.log.With("keyset", c.Keyset)))
	opts = options.Given(opts, c.KeysetReload, aead.WithReload)
	opts = options.Given(opts, c.Cryptoperiod, aead.WithCryptoperiod)
	ring, err := aead.OpenKeyring(ctx, source, kek, opts...)
	if err != nil {
		return nil, err
	}
	o.keyrings[id] = ring
	o.keys.closers = append(o.keys.closers, ring)
	o.keys.all = append(o.keys.all, ring)
	return ring, nil
}

func keysetName(name string) []aead.KeyringOption {
	return options.Given[aead.KeyringOption](nil, name, aead.WithKeysetName)
}

// envelopeSetting is a setting that is given, and its option.
type envelopeSetting struct {
	name   string
	option aead.EnvelopeOption
}

// envelopeSettings returns the given limits of data keys.
func (c Cache) envelopeSettings() []envelopeSetting {
	d := c.DataKeys
	var s []envelopeSetting
	s = given(s, "data_keys.max_messages", d.MaxMessages, aead.WithMaxMessages)
	s = given(s, "data_keys.max_bytes", d.MaxBytes, aead.WithMaxBytes)
	s = given(s, "data_keys.max_age", d.MaxAge, aead.WithMaxAge)
	s = given(s, "data_keys.cache_size", d.CacheSize, aead.WithDataKeyCache)
	return given(s, "data_keys.ttl", d.TTL, aead.WithDataKeyTTL)
}

// given appends a setting, unless it has the zero value.
func given[T comparable](s []envelopeSetting, name string, value T, option func(T) aead.EnvelopeOption) []envelopeSetting {
	return options.Given(s, value, func(v T) envelopeSetting { return envelopeSetting{name, option(v)} })
}
