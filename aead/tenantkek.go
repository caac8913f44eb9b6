package aead

import (
	"context"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"sync"

	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/sealcache/sealcache/internal/errtext"
	"github.com/sealcache/sealcache/internal/nilcheck"
)

// The KEK of a tenant wraps
//
//	0x01 || key commitment (32) || serialized data key
//
// AES-GCM does not commit to its key. Two tenants that know their KEKs can make one ciphertext that opens under both
// KEKs, to different plaintexts. Section 5 of Albertini et al., "How to Abuse and Fix Authenticated Encryption
// Without Key Commitment" (USENIX Security 2022), has this remedy. Bellare and Hoang (Eurocrypt 2022) have the proof.
// The commitment is HKDF-SHA256 (RFC 5869) of the data key, with the tenant in the info. It is a collision-resistant
// hash of both, so one ciphertext holds the data key of one tenant at most. The commitment is inside the ciphertext,
// so it reveals nothing. No serialized Tink key begins with 0x01, because protobuf has no field 0.
const (
	tenantKeyVersion   = 1
	tenantCommitment   = 32
	tenantKeyHeader    = 1 + tenantCommitment
	tenantCommitDomain = "sealcache tenant data key\x00"
)

// errOtherTenant is allocated once, so that planted values cause no extra work.
var errOtherTenant = fmt.Errorf("%w: the data key of the ciphertext belongs to another tenant or to none", ErrUnauthentic)

// commitToDataKey returns the commitment to a data key and its tenant.
func commitToDataKey(tenant string, serialized []byte) ([]byte, error) {
	commitment, err := hkdf.Key(sha256.New, serialized, nil, tenantCommitDomain+tenant, tenantCommitment)
	if err != nil {
		return nil, fmt.Errorf("cannot compute the hash that binds the data key to its tenant (report this bug): %w", err)
	}
	return commitment, nil
}

// isTenantDataKey reports whether a KEK unwrapped the data key of some tenant.
func isTenantDataKey(typeURL string, unwrapped []byte) bool {
	if len(unwrapped) <= tenantKeyHeader || unwrapped[0] != tenantKeyVersion {
		return false
	}
	_, err := dataKeyPrimitive(typeURL, unwrapped[tenantKeyHeader:], false)
	return err == nil
}

// isAnyDataKey reports whether a KEK unwrapped a data key, of a tenant or without one.
func isAnyDataKey(typeURL string, unwrapped []byte) bool {
	_, err := dataKeyPrimitive(typeURL, unwrapped, false)
	return err == nil || isTenantDataKey(typeURL, unwrapped)
}

// tenantKEK is the KEK of a tenant. It is opened by the first call, and adds the commitment.
type tenantKEK struct {
	id      string
	tenants *tenants
	typeURL string
	clock   *clock
	changed func() // called when the keys of the KEK have changed

	mu      sync.Mutex
	kek     tink.AEADWithContext
	local   bool
	cancel  func()        // ends the subscription
	opening chan struct{} // closed when the present attempt has ended; nil if there is none
	err     error         // of the last attempt, given out until next
	next    int64
	fails   int
}

// EncryptWithContext wraps a serialized data key.
func (k *tenantKEK) EncryptWithContext(ctx context.Context, serialized, associatedData []byte) (wrapped []byte, err error) {
	commitment, err := commitToDataKey(k.id, serialized)
	if err != nil {
		return nil, err
	}
	inner := make([]byte, 0, tenantKeyHeader+len(serialized))
	inner = append(inner, tenantKeyVersion)
	inner = append(inner, commitment...)
	inner = append(inner, serialized...)
	defer clear(inner)
	err = k.call(ctx, func(kek tink.AEADWithContext) error {
		if err := k.readAgain(ctx, kek); err != nil {
			return err
		}
		wrapped, err = kek.EncryptWithContext(ctx, inner, associatedData)
		return err
	})
	return wrapped, err
}

// DecryptWithContext unwraps a data key, and checks its commitment.
func (k *tenantKEK) DecryptWithContext(ctx context.Context, wrapped, associatedData []byte) ([]byte, error) {
	return k.decrypt(ctx, wrapped, [][]byte{associatedData})
}

// decrypt is DecryptWithContext for a data key that was wrapped with one of these contexts.
func (k *tenantKEK) decrypt(ctx context.Context, wrapped []byte, contexts [][]byte) (serialized []byte, err error) {
	var inner []byte
	err = k.call(ctx, func(kek tink.AEADWithContext) error {
		if err := k.readAgain(ctx, kek); err != nil {
			return err
		}
		inner, err = unwrapKey(ctx, kek, wrapped, contexts, k.usable)
		return err
	})
	if err != nil {
		return nil, err
	}
	defer clear(inner)
	if !isTenantDataKey(k.typeURL, inner) {
		if _, err := dataKeyPrimitive(k.typeURL, inner, false); err == nil {
			return nil, errOtherTenant // the Envelope's own data key, or one of Tink's
		}
		return nil, errNotDataKey // a proxy may have answered
	}
	serialized = append(serialized, inner[tenantKeyHeader:]...)
	commitment, err := commitToDataKey(k.id, serialized)
	if err != nil {
		clear(serialized)
		return nil, err
	}
	if subtle.ConstantTimeCompare(commitment, inner[1:tenantKeyHeader]) != 1 {
		clear(serialized)
		return nil, errOtherTenant
	}
	return serialized, nil
}

// usable reports whether a KEK may have unwrapped these bytes: they are the data key of a tenant, or one without tenant.
func (k *tenantKEK) usable(unwrapped []byte) bool { return isAnyDataKey(k.typeURL, unwrapped) }

// call opens the KEK if it is not open, and calls it. A KEK that computes locally is not counted among the calls.
func (k *tenantKEK) call(ctx context.Context, do func(tink.AEADWithContext) error) error {
	kek, local := k.opened()
	if !local {
		end, err := k.tenants.begin(ctx)
		if err != nil {
			return err
		}
		defer end()
	}
	if kek == nil {
		var err error
		if kek, err = k.open(ctx); err != nil {
			return err
		}
	}
	return do(kek)
}

// readAgain reads the file of a KEK of WithTenantKEKs again. A KEK that is a file is in memory. Without this, its
// destruction would take effect at a restart only, and so would its rotation with "?reload=off".
func (k *tenantKEK) readAgain(ctx context.Context, kek tink.AEADWithContext) error {
	file, ok := kek.(*Keyring)
	if !ok || !k.tenants.own {
		return nil
	}
	if err := file.readAgain(ctx); err != nil {
		return unavailable("cannot read the file of the tenant's key-encryption key again", err)
	}
	return nil
}

func (k *tenantKEK) opened() (kek tink.AEADWithContext, local bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.kek, k.local
}

// open opens the KEK. One call does it at a time; others wait for it.
func (k *tenantKEK) open(ctx context.Context) (tink.AEADWithContext, error) {
	for {
		k.mu.Lock()
		switch {
		case k.kek != nil:
			defer k.mu.Unlock()
			return k.kek, nil
		case k.err != nil && k.clock.now() < k.next:
			defer k.mu.Unlock()
			return nil, k.err
		}
		opening := k.opening
		if opening == nil {
			k.opening = make(chan struct{})
			k.mu.Unlock()
			k.tryOpen(ctx)
			continue
		}
		k.mu.Unlock()
		select {
		case <-opening:
		case <-ctx.Done():
			return nil, fmt.Errorf("aead: the tenant's key-encryption key was not open in time: %w", ended(ctx))
		}
	}
}

// tryOpen asks for the KEK once, and notes the answer.
func (k *tenantKEK) tryOpen(ctx context.Context) {
	err := errors.New("aead: the function given to WithTenants panicked when it opened the tenant's key-encryption key")
	var kek tink.AEADWithContext
	defer func() { // also of a panic, which the caller turns into an error
		k.mu.Lock()
		defer k.mu.Unlock()
		close(k.opening)
		k.opening = nil
		if err == nil {
			k.kek, k.local, k.err, k.fails = kek, isLocal(kek), nil, 0
			if r, ok := kek.(reloading); ok {
				k.cancel = r.onReload(k.changed)
			}
			return
		}
		k.err, k.next = err, k.clock.now()+int64(backoff(k.fails))
		k.fails++
		if errors.Is(err, ErrUnknownTenant) {
			k.next = k.clock.now() + int64(refusalMemory)
		}
	}()
	kek, err = k.tenants.open(ctx, k.id)
	err = answered(ctx, errtext.Guard(err))
	switch {
	case err == nil && nilcheck.IsNil(kek):
		err = &shortError{"aead: unknown tenant id: the function given to WithTenants returned neither a key nor an error", ErrUnknownTenant}
	case err == nil:
		err = k.tenants.keep(ctx, kek)
	case !errors.Is(err, ErrUnknownTenant) && !errors.Is(err, ErrKeyServiceUnavailable):
		err = unavailable("cannot open the tenant's key-encryption key", err)
	}
}

// unsubscribe ends the subscription to reloads, when the tenant's Envelope is closed.
func (k *tenantKEK) unsubscribe() {
	k.mu.Lock()
	cancel := k.cancel
	k.cancel = nil
	k.mu.Unlock()
	if cancel != nil {
		cancel()
	}
}
