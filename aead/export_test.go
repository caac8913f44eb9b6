package aead

import (
	"context"
	"encoding/hex"
	"time"

	"github.com/tink-crypto/tink-go/v2/key"
	"github.com/tink-crypto/tink-go/v2/tink"
)

// The constants that tests of package aead_test compare with.

const (
	WarnRandomNonces = warnRandomNonces
	MaxRandomNonces  = maxRandomNonces
	RefusalMemory    = refusalMemory
	UnwrapBurst      = unwrapBurst
	UnwrapRate       = unwrapRate
	UnwrapParallel   = unwrapParallel
	KEKSetParallel   = kekSetParallel
	UnwrapQueue      = unwrapQueue
	WrapParallel     = wrapParallel
	PassphraseHeader = passphraseHeader
	MaxRefusals      = maxRefusals
)

// KEKChanged does to an Envelope over any KEK what a Keyring does on reload.
func (e *Envelope) KEKChanged() { e.kekChanged() }

// Resume does to an Envelope what a noticed suspension of the machine does.
func (e *Envelope) Resume() { e.renewDataKey() }

// Suspend does to the clock of an Envelope what a suspension of the machine does: the wall clock jumps ahead.
func (e *Envelope) Suspend(d time.Duration) { e.clock.wall.Add(-int64(d)) }

// ReadAgain does what a tenant does before it calls a KEK that is a file.
func (k *Keyring) ReadAgain(ctx context.Context) error { return k.readAgain(ctx) }

// OnReload subscribes to changes of the keyset.
func (k *Keyring) OnReload(f func()) { k.onReload(f) }

// OnReload subscribes to changes of a member's keyset.
func (s *KEKSet) OnReload(f func()) { s.onReload(f) }

// SetMessages sets how many messages the primary key of a Keyring has sealed.
func (k *Keyring) SetMessages(n uint64) { k.keyset.Load().primary.counter.n.Store(n) }

// NewCheapPassphraseKEK costs a few milliseconds instead of a third of a second.
func NewCheapPassphraseKEK(ctx context.Context, passphrase, salt string) (tink.AEADWithContext, error) {
	return newPassphraseKEK(ctx, []byte(passphrase), []byte(salt), argonParams{time: 1, threads: 1, memory: 19 << 10})
}

// DerivePassphraseKEK is NewCheapPassphraseKEK with the caller's memory.
func DerivePassphraseKEK(ctx context.Context, passphrase []byte) error {
	_, err := newPassphraseKEK(ctx, passphrase, []byte(defaultPassphraseSalt), argonParams{time: 1, threads: 1, memory: 64})
	return err
}

// Refusals returns how many refusals an Envelope remembers.
func (e *Envelope) Refusals() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return max(len(e.refused.m), len(e.refused.order))
}

// PassphraseCommitment returns the key commitment of a ciphertext in hexadecimal.
func PassphraseCommitment(ciphertext []byte) string {
	return hex.EncodeToString(ciphertext[len(passphraseMagic):passphraseHeader])
}

// SplitEnvelope is the parser of ciphertexts.
func SplitEnvelope(ciphertext []byte) (header, payload []byte, ok bool) {
	return splitEnvelope(ciphertext)
}

// AgeClock is the clock by which keys age.
type AgeClock struct{ c *clock }

func NewAgeClock() AgeClock                              { return AgeClock{newClock()} }
func (t AgeClock) Now() time.Duration                    { return time.Duration(t.c.now()) }
func (t AgeClock) Observe(wall, monotonic time.Duration) { t.c.observe(wall, monotonic) }

// SetMessagesOf sets how many messages a key has sealed that the Keyring may not even have yet.
func (k *Keyring) SetMessagesOf(id uint32, key key.Key, n uint64) { k.counters.of(id, key).n.Store(n) }

// TenantCommitment returns the commitment to a serialized data key and its tenant.
func TenantCommitment(tenant string, serialized []byte) []byte {
	commitment, err := commitToDataKey(tenant, serialized)
	if err != nil {
		panic(err)
	}
	return commitment
}

// UnwrapForTenant has a tenant's KEK unwrap a data key.
func UnwrapForTenant(tenant, typeURL string, kek tink.AEADWithContext) ([]byte, error) {
	open := func(context.Context, string) (tink.AEADWithContext, error) { return kek, nil }
	k := &tenantKEK{id: tenant, typeURL: typeURL, clock: newClock(), tenants: newTenants(&envelopeConfig{tenants: open})}
	return k.DecryptWithContext(context.Background(), []byte("wrapped"), nil)
}

// EncodeWrapContext is the associated data of a context.
func EncodeWrapContext(context map[string]string) []byte { return encodeWrapContext(context, "") }
