package aead

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/tink"
)

// Keyring is a Tink keyset in use, which can be reloaded at any time. It implements tink.AEAD, tink.AEADWithContext and
// AppendAEAD, and seals exactly the bytes that Tink would: 33 more than the plaintext for AES-GCM keys.
//
// It is the KEK of an Envelope, or, for few writes, an AEAD in its own right.
//
// Sealing and opening take no lock. Each call uses one keyset: the old or the new one during a reload. A Keyring tests a
// keyset before it uses it: it seals and opens a message. If it cannot read or use the new keyset, it keeps the old one.
//
// # How many messages one key may seal
//
// AES-GCM and ChaCha20-Poly1305 draw a random number of 96 bits, the nonce, for each message. If a nonce repeats under one
// key, an attacker learns about both messages, and can forge others. NIST therefore allows at most 2^32 messages per key
// (SP 800-38D, section 8.3). The messages of all processes that share the key count. At 100,000 messages per second, a key
// reaches this limit in twelve hours.
//
// A Keyring counts only its own messages, although other processes may use the same keyset. At 2^28 messages it logs a
// warning. At 2^32 messages it returns ErrKeyExhausted. If you have more messages, use an Envelope: each process makes its
// own data keys and replaces them early. Or use XAES-256-GCM keys in the keyset (Tink's template
// XAES256GCM192BitNonceKeyTemplate). They have longer nonces and need no limit.
type Keyring struct {
	keyset   atomic.Pointer[loadedKeyset] // nil once closed
	counters messageCounters
	log      *slog.Logger
	stats    keyringCounters

	times        atomic.Pointer[map[uint32]KeyTimes] // by key; nil if the source has none
	timesFailed  atomic.Bool                         // said already
	cryptoperiod time.Duration
	aged         sync.Map // the ids of keys whose age was warned of

	// Reloading; src is nil if there is nothing to reload from.
	src            *sourceReader
	kek            *kekSpy
	associatedData []byte
	reloading      chan struct{}   // holds one token during a reload or KEK check; guards the six fields from kek to lost
	loaded         []byte          // the serialized keyset in service
	lost           keyDigests      // keys that went out of service together, see Check
	kekCheck       time.Duration   // how often the KEK is asked again; 0 for a keyset in plaintext
	kekTimer       *time.Timer     // nil if kekCheck is 0
	closing        context.Context //nolint:containedctx // ends with Close, and with it every reload
	stop           context.CancelFunc
	background     sync.WaitGroup

	mu          sync.Mutex
	subscribers map[int]func()
	nextID      int
}

var (
	_ tink.AEAD            = (*Keyring)(nil)
	_ tink.AEADWithContext = (*Keyring)(nil)
	_ AppendAEAD           = (*Keyring)(nil)
)

// KeyInfo describes a key. It holds no key material.
type KeyInfo struct {
	ID       uint32
	Type     string           // Tink's name of the key type, such as "AesGcmKey"
	Prefix   string           // "TINK", "CRUNCHY", "LEGACY", or "RAW": ciphertexts of such a key do not name it
	Status   keyset.KeyStatus // Enabled, Disabled, Destroyed
	Primary  bool             // the key that seals
	Times    KeyTimes         // zero times are unknown; only a FileSource has them
	Messages uint64           // sealed by this Keyring under this key; counted only for random 96-bit nonces
}

// NewKeyring returns a Keyring of the keys of a handle. It cannot be reloaded. Of the options only WithLogger applies.
func NewKeyring(h *keyset.Handle, opts ...KeyringOption) (*Keyring, error) {
	c, err := keyringFunction{name: "NewKeyring"}.config(nil, opts)
	if err != nil {
		return nil, err
	}
	return newKeyring(h, c)
}

// OpenKeyring reads a keyset from src that CreateKeyset or Tink's tools have sealed under kek, in JSON or binary.
// Before it returns, it seals a probe under the keyset and opens it again.
//
// ctx bounds the reading and is not kept; a source or kek that ignores it is abandoned. A nil kek is an error. kek is
// called again at each reload of a changed keyset, and at least as often as WithKEKCheck says. Close does not close it.
//
// A FileSource is read again as soon as the file changes, and once a minute. WithReload sets the interval, and WithoutReload
// turns this off. Other sources, and a path that is not that of a regular file, are read again only with WithReload. Close
// ends it.
func OpenKeyring(ctx context.Context, src Source, kek tink.AEADWithContext, opts ...KeyringOption) (*Keyring, error) {
	c, err := keyringFunction{name: "OpenKeyring", binds: true, reloads: true}.config(kek, opts)
	if err != nil {
		return nil, err
	}
	reader := newSourceReader(src)
	data, err := reader.load(ctx)
	if err != nil {
		return nil, err
	}
	spy := newKEKSpy(kek)
	spy.unnamed = unnamedWarning(c)
	handle, err := parseKeyset(ctx, data, spy, c.associatedData)
	if err != nil {
		return nil, err
	}
	k, err := newKeyring(handle, c)
	if err != nil {
		return nil, err
	}
	k.src, k.kek, k.associatedData, k.loaded = reader, spy, c.associatedData, data
	warnOfKeysetFile(ctx, src, kek, c.log)
	if !isCleartext(kek) {
		k.startKEKCheck(c.kekCheck)
	}
	k.readTimes(ctx, src)
	every := c.reload
	if c.reloadOption == "" {
		every = defaultReload(ctx, src)
	}
	if every > 0 {
		k.watch(ctx, every)
	}
	return k, nil
}

func newKeyring(h *keyset.Handle, c *keyringConfig) (*Keyring, error) {
	k := &Keyring{log: c.log, cryptoperiod: c.cryptoperiod, reloading: make(chan struct{}, 1), subscribers: make(map[int]func())}
	r, err := newLoadedKeyset(h, &k.counters)
	if err != nil {
		return nil, err
	}
	k.keyset.Store(r)
	k.closing, k.stop = context.WithCancel(context.Background())
	return k, nil
}

// current returns the keyset in service.
func (k *Keyring) current() (*loadedKeyset, error) {
	r := k.keyset.Load()
	if r == nil {
		return nil, ErrClosed
	}
	return r, r.refused
}

// Keys lists the keys of the keyset in its order. After Close it is empty.
func (k *Keyring) Keys() []KeyInfo {
	r := k.keyset.Load()
	if r == nil {
		return nil
	}
	infos := make([]KeyInfo, len(r.infos))
	copy(infos, r.infos)
	k.timesOf(infos)
	for i, key := range r.keys {
		if key.counter != nil {
			infos[i].Messages = key.counter.n.Load()
		}
	}
	return infos
}

// Overhead returns how many bytes sealing currently adds: 33 for an AES-GCM key.
func (k *Keyring) Overhead() int {
	r, err := k.current()
	if err != nil {
		return 0
	}
	return r.primary.overhead()
}

// SealTo implements AppendAEAD: it seals under the primary key. It fails with ErrKeyExhausted when this process has
// sealed 2^32 messages under a key with random 96-bit nonces.
func (k *Keyring) SealTo(ctx context.Context, dst, plaintext, associatedData []byte) ([]byte, error) {
	if ctx.Err() != nil {
		return nil, fmt.Errorf("aead: seal: %w", ended(ctx))
	}
	r, err := k.current()
	if err != nil {
		return nil, err
	}
	key := r.primary
	if key.counter != nil {
		if err := key.counter.reserve(key.id, k.log); err != nil {
			return nil, err
		}
	}
	dst = grow(dst, key.overhead()+len(plaintext))
	dst = append(dst, key.sealedPrefix()...)
	return key.prim.sealTo(dst, plaintext, associatedData)
}

// OpenTo implements AppendAEAD. In a keyset that has keys without a prefix (RAW), opening in place takes a copy.
func (k *Keyring) OpenTo(ctx context.Context, dst, ciphertext, associatedData []byte) ([]byte, error) {
	if ctx.Err() != nil {
		return nil, fmt.Errorf("aead: open: %w", ended(ctx))
	}
	r, err := k.current()
	if err != nil {
		return nil, err
	}
	return r.open(dst, ciphertext, associatedData)
}

// EncryptWithContext implements tink.AEADWithContext.
func (k *Keyring) EncryptWithContext(ctx context.Context, plaintext, associatedData []byte) ([]byte, error) {
	return k.SealTo(ctx, nil, plaintext, associatedData)
}

// DecryptWithContext implements tink.AEADWithContext. It fails with ErrUnauthentic or ErrUnknownKey.
func (k *Keyring) DecryptWithContext(ctx context.Context, ciphertext, associatedData []byte) ([]byte, error) {
	return present(k.OpenTo(ctx, nil, ciphertext, associatedData))
}

// Encrypt implements tink.AEAD.
func (k *Keyring) Encrypt(plaintext, associatedData []byte) ([]byte, error) {
	return k.SealTo(context.Background(), nil, plaintext, associatedData)
}

// Decrypt implements tink.AEAD.
func (k *Keyring) Decrypt(ciphertext, associatedData []byte) ([]byte, error) {
	return present(k.OpenTo(context.Background(), nil, ciphertext, associatedData))
}

// Close ends reloading and releases the keys; later calls fail with ErrClosed. It ends a reload that is under way. Closing
// twice does nothing.
func (k *Keyring) Close() error {
	k.mu.Lock() // after notifyLater, or before it
	k.stop()
	k.mu.Unlock()
	k.background.Wait()
	k.reloading <- struct{}{}
	defer func() { <-k.reloading }()
	if k.kekTimer != nil {
		k.kekTimer.Stop()
	}
	k.keyset.Store(nil)
	clear(k.loaded) // in plaintext, if the keyset is
	k.loaded = nil
	return nil
}

// String shows how many keys there are and the primary key's id.
func (k *Keyring) String() string {
	r, err := k.current()
	if err != nil {
		return "aead.Keyring(closed or refused)"
	}
	return fmt.Sprintf("aead.Keyring(%d keys, primary %d)", len(r.keys), r.primary.id)
}

// GoString returns String.
func (k *Keyring) GoString() string { return k.String() }

// LogValue returns String.
func (k *Keyring) LogValue() slog.Value { return slog.StringValue(k.String()) }

// Format writes String, for every verb.
func (k *Keyring) Format(s fmt.State, _ rune) { writeString(s, k) }
