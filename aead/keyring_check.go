package aead

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/tink-crypto/tink-go/v2/insecurecleartextkeyset"
	"github.com/tink-crypto/tink-go/v2/keyset"
)

var (
	// errKeysetRefused is an outage for callers: values under the keyset may be sound, so callers must not discard
	// them.
	errKeysetRefused = fmt.Errorf("%w: the KEK refuses to decrypt the keyset (enable or restore the KEK)", ErrKeyServiceUnavailable)

	errUnrelatedKeyset = errors.New("aead: since a reload, the keyset in use has none of the previous keys (restore the right keyset)")
)

// KeyringStats counts what happened to a Keyring since it was made.
type KeyringStats struct {
	// Reloads is how often a changed keyset went into service.
	Reloads uint64
	// ReloadFailures is how often a keyset could not be read or opened. The old one stayed in service.
	ReloadFailures uint64
	// UnrelatedKeysets counts reloads after which no key of the previous keyset remained.
	UnrelatedKeysets uint64
	// KEKRefusals is how often the key-encryption key refused the keyset in service.
	KEKRefusals uint64
}

type keyringCounters struct {
	reloads, reloadFailures, unrelated, refusals atomic.Uint64
	isUnrelated                                  atomic.Bool
}

// Stats returns the present counts. It is safe for concurrent use.
func (k *Keyring) Stats() KeyringStats {
	return KeyringStats{
		Reloads:          k.stats.reloads.Load(),
		ReloadFailures:   k.stats.reloadFailures.Load(),
		UnrelatedKeysets: k.stats.unrelated.Load(),
		KEKRefusals:      k.stats.refusals.Load(),
	}
}

// Check returns an error if the Keyring is closed, if its key-encryption key refuses the keyset, or if a reload
// replaced all keys at once. The last error remains until a keyset with one of the former keys is in service. Check
// calls no service.
func (k *Keyring) Check() error {
	if _, err := k.current(); err != nil {
		return err
	}
	if k.stats.isUnrelated.Load() {
		return errUnrelatedKeyset
	}
	return nil
}

// keyDigests is a set of keys without their material.
type keyDigests map[[sha256.Size]byte]struct{}

// digestsOf returns the keys of a keyset, each by a digest of its id, type and material.
func digestsOf(h *keyset.Handle) keyDigests {
	keys := insecurecleartextkeyset.KeysetMaterial(h).GetKey()
	digests := make(keyDigests, len(keys))
	for _, key := range keys {
		material := key.GetKeyData().GetValue()
		d := sha256.New()
		d.Write(binary.BigEndian.AppendUint32([]byte("sealcache key digest\x00"), key.GetKeyId()))
		d.Write([]byte(key.GetKeyData().GetTypeUrl() + "\x00"))
		d.Write(material)
		clear(material)
		digests[[sha256.Size]byte(d.Sum(nil))] = struct{}{}
	}
	return digests
}

func (d keyDigests) intersects(other keyDigests) bool {
	for digest := range d {
		if _, ok := other[digest]; ok {
			return true
		}
	}
	return false
}

// compareKeys reports a keyset that has no key of the previous one, because earlier values then no longer open.
func (k *Keyring) compareKeys(ctx context.Context, old, r *loadedKeyset) {
	digests := digestsOf(r.handle)
	if k.lost != nil && digests.intersects(k.lost) {
		k.lost = nil
		k.stats.isUnrelated.Store(false)
		k.log.InfoContext(ctx, "sealcache: the reloaded keyset has keys again that an earlier reload removed, so values under these keys open again")
		return
	}
	former := old.digests // of a refused keyset
	if old.refused == nil {
		former = digestsOf(old.handle)
	}
	if digests.intersects(former) {
		return
	}
	if k.lost == nil {
		k.lost = former
		k.stats.isUnrelated.Store(true)
	}
	k.stats.unrelated.Add(1)
	k.log.ErrorContext(ctx, "sealcache: the keyset now in use has none of the previous keys, so older values do not open (restore the right keyset)")
}

// kekCheckRetry bounds the time to the next question after an outage or a refusal.
const kekCheckRetry = time.Minute

// startKEKCheck asks the KEK every so often whether it still opens the keyset in service. Between two questions there is
// a timer and no goroutine.
func (k *Keyring) startKEKCheck(every time.Duration) {
	k.reloading <- struct{}{}
	defer func() { <-k.reloading }()
	k.kekCheck = every
	k.kekTimer = time.AfterFunc(1<<62, k.checkKEK) // set before it can run
	k.kekTimer.Reset(every)
}

// checkKEK asks the KEK to open the keyset in service again. A refusal takes the keyset out of service, until the KEK
// opens it again. An outage leaves it in service.
func (k *Keyring) checkKEK() {
	ctx, cancel := context.WithTimeout(k.closing, backgroundTimeout)
	defer cancel()
	ctx, done, err := k.exclusively(ctx)
	if err != nil {
		k.scheduleKEKCheck(min(k.kekCheck, kekCheckRetry))
		return
	}
	defer done()
	next := min(k.kekCheck, kekCheckRetry)
	defer func() { k.scheduleKEKCheck(next) }()
	current := k.keyset.Load()
	if current == nil {
		return
	}
	handle, err := parseKeyset(ctx, k.loaded, k.kek, k.associatedData)
	switch {
	case isRefusal(err) || errors.Is(err, errKeysetRefused): // the second is the answer of a refused Keyring
		if current.refused == nil {
			k.stats.refusals.Add(1)
			k.keyset.Store(&loadedKeyset{refused: errKeysetRefused, digests: digestsOf(current.handle)})
			k.log.ErrorContext(ctx, "sealcache: the KEK refuses to decrypt the keyset, so sealing and opening fail (enable or restore the KEK)", "error", err)
			k.notify()
		}
	case err != nil:
		if !errors.Is(err, context.Canceled) {
			k.log.WarnContext(ctx, "sealcache: cannot ask whether the key-encryption key still decrypts the keyset; the keyset stays in use", "error", err)
		}
	case current.refused != nil:
		r, err := newLoadedKeyset(handle, &k.counters)
		if err != nil {
			k.log.ErrorContext(ctx, "sealcache: the KEK decrypts the keyset again, but the keyset is unusable (see \"error\"); sealing and opening still fail", "error", err)
			return
		}
		k.keyset.Store(r)
		k.log.InfoContext(ctx, "sealcache: the KEK decrypts the keyset again, so sealing and opening work again")
		k.notify()
		next = k.kekCheck
	default:
		next = k.kekCheck
	}
}

// scheduleKEKCheck sets the timer, unless the Keyring is closed.
func (k *Keyring) scheduleKEKCheck(after time.Duration) {
	if k.closing.Err() == nil {
		k.kekTimer.Reset(after)
	}
}
