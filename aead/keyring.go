package aead

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/tink"
)

// Keyring is a Tink keyset in use, which can be reloaded at any time. It implements tink.AEAD, tink.AEADWithContext and
// AppendAEAD, and seals exactly the bytes that Tink would: 33 more than the plaintext for AES-GCM keys.
//
// It is the KEK of an Envelope, or, for few writes, an AEAD in its own right; the package comment has the arithmetic.
//
// Sealing and opening take no lock. Each sees one keyset, the one before a reload or the one after.
type Keyring struct {
	ring     atomic.Pointer[ring] // nil once closed
	counters messageCounters
	log      *slog.Logger

	// Reloading; src is nil if there is nothing to reload from.
	src            Source
	kek            *kekSpy
	associatedData []byte
	reloading      chan struct{}     // holds one token while a reload is under way; guards kek and loaded
	loaded         [sha256.Size]byte // digest of what was loaded last with success

	stop       context.CancelFunc // ends the watcher; nil if there is none
	background sync.WaitGroup

	mu          sync.Mutex
	subscribers map[int]func()
	nextID      int
}

var (
	_ tink.AEAD            = (*Keyring)(nil)
	_ tink.AEADWithContext = (*Keyring)(nil)
	_ AppendAEAD           = (*Keyring)(nil)
)

// KeyInfo says what may be known about a key. It holds no key material.
type KeyInfo struct {
	ID       uint32
	Type     string           // Tink's name of the key type, such as "AesGcmKey"
	Prefix   string           // "TINK", "CRUNCHY", "LEGACY", or "RAW": ciphertexts of such a key do not name it
	Status   keyset.KeyStatus // Enabled, Disabled, Destroyed
	Primary  bool             // the key that seals
	Messages uint64           // sealed by this Keyring under this key; counted only for random 96-bit nonces
}

// NewKeyring uses the keys of a handle. Such a Keyring cannot be reloaded. Of the options only WithKeyringLogger
// applies.
func NewKeyring(h *keyset.Handle, opts ...KeyringOption) (*Keyring, error) {
	o, err := keyringOptionsOf(opts)
	if err != nil {
		return nil, err
	}
	if err := o.only("NewKeyring"); err != nil {
		return nil, err
	}
	if o.hasAssociatedData {
		return nil, errors.New("aead: WithAssociatedData does not apply to NewKeyring")
	}
	return newKeyring(h, o)
}

// OpenKeyring reads a keyset from src, sealed under kek, as CreateKeyset or Tink's tools write it (JSON or binary, told
// apart by their first byte). The keyset proves itself before OpenKeyring returns: a probe is sealed and opened.
//
// ctx bounds the reading and is not kept; a kek that ignores it is abandoned. A nil kek is an error. kek is called again
// at each reload, and is not closed by Close.
func OpenKeyring(ctx context.Context, src Source, kek tink.AEADWithContext, opts ...KeyringOption) (*Keyring, error) {
	o, err := keyringOptionsOf(opts)
	if err != nil {
		return nil, err
	}
	if err := o.fits(kek); err != nil {
		return nil, err
	}
	data, err := loadSource(ctx, src)
	if err != nil {
		return nil, err
	}
	spy := newKEKSpy(kek)
	handle, err := parseKeyset(ctx, data, spy, o.associatedData)
	if err != nil {
		return nil, err
	}
	k, err := newKeyring(handle, o)
	if err != nil {
		return nil, err
	}
	k.src, k.kek, k.associatedData = src, spy, o.associatedData
	k.loaded = sha256.Sum256(data)
	if o.hasReload {
		k.watch(ctx, o.reload)
	}
	return k, nil
}

func newKeyring(h *keyset.Handle, o *keyringOptions) (*Keyring, error) {
	k := &Keyring{log: o.log, reloading: make(chan struct{}, 1), subscribers: make(map[int]func())}
	r, err := newRing(h, &k.counters)
	if err != nil {
		return nil, err
	}
	k.ring.Store(r)
	return k, nil
}

// Keys lists the keys of the keyset in its order. After Close it is empty.
func (k *Keyring) Keys() []KeyInfo {
	r := k.ring.Load()
	if r == nil {
		return nil
	}
	infos := make([]KeyInfo, len(r.infos))
	copy(infos, r.infos)
	for i, key := range r.keys {
		if key.counter != nil {
			infos[i].Messages = key.counter.n.Load()
		}
	}
	return infos
}

// Overhead returns how many bytes sealing currently adds: 33 for an AES-GCM key.
func (k *Keyring) Overhead() int {
	r := k.ring.Load()
	if r == nil {
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
	r := k.ring.Load()
	if r == nil {
		return nil, ErrClosed
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
	r := k.ring.Load()
	if r == nil {
		return nil, ErrClosed
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

// Close ends reloading and lets go of the keys; later calls fail with ErrClosed. It cancels a reload in the background,
// and waits for one that the application called. Closing twice does nothing.
func (k *Keyring) Close() error {
	if k.stop != nil {
		k.stop()
	}
	k.background.Wait()
	k.reloading <- struct{}{}
	defer func() { <-k.reloading }()
	k.ring.Store(nil)
	return nil
}

// String says how many keys there are, and nothing of them.
func (k *Keyring) String() string {
	r := k.ring.Load()
	if r == nil {
		return "aead.Keyring(closed)"
	}
	return fmt.Sprintf("aead.Keyring(%d keys, primary %d)", len(r.keys), r.primary.id)
}

// GoString is String.
func (k *Keyring) GoString() string { return k.String() }

// LogValue is String.
func (k *Keyring) LogValue() slog.Value { return slog.StringValue(k.String()) }

// Format is String, whatever the verb.
func (k *Keyring) Format(s fmt.State, _ rune) { writeString(s, k) }
