package aead_test

import (
	"bytes"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	tinkaead "github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/aead/aeadtest"
)

func TestShreddingByReloadIsImmediate(t *testing.T) {
	t.Parallel()
	for name, around := range map[string]func(*aead.Keyring) tink.AEADWithContext{
		"Keyring":               func(k *aead.Keyring) tink.AEADWithContext { return k },
		"struct that embeds it": func(k *aead.Keyring) tink.AEADWithContext { return decorated{k} },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			testShredding(t, around)
		})
	}
}

func testShredding(t *testing.T, around func(*aead.Keyring) tink.AEADWithContext) {
	t.Helper()
	r := newReloadable(t)
	first := r.Keys()[0].ID
	e := newEnvelope(t, around(r.Keyring))
	other := newEnvelope(t, r.Keyring)
	own, others := seal(t, e, "own"), seal(t, other, "other")
	open(t, e, others)

	r.rotate(t)
	r.reload(t)
	fresh := seal(t, e, "fresh")
	if header(t, fresh) == header(t, own) || !bytes.Contains(fresh, prefixOf(r.Keyring)) {
		t.Error("after a rotation the data key is still wrapped under the old key")
	}
	open(t, e, own)
	open(t, e, others)

	if err := r.manager.Delete(first); err != nil {
		t.Fatal(err)
	}
	r.write(t)
	r.reload(t)
	for _, sealed := range [][]byte{own, others} {
		var keyErr *aead.KeyError
		if _, err := e.DecryptWithContext(t.Context(), sealed, nil); !errors.Is(err, aead.ErrUnknownKey) || !errors.As(err, &keyErr) || keyErr.KeyID != first {
			t.Errorf("after its key was removed: %v", err)
		}
	}
	open(t, e, fresh)
	open(t, e, seal(t, e, "goes on"))
}

// A keyset that comes a moment late must not leave its values refused.
func TestReloadForgetsRefusals(t *testing.T) {
	t.Parallel()
	r := newReloadable(t)
	e := newEnvelope(t, r.Keyring)
	addPrimary(t, r.manager)
	ahead := seal(t, newEnvelope(t, keyringOf(t, r.manager)), "of a process that has the new keyset")
	if _, err := e.DecryptWithContext(t.Context(), ahead, nil); !errors.Is(err, aead.ErrUnknownKey) {
		t.Fatalf("ahead of the reload: %v", err)
	}
	r.write(t)
	r.reload(t)
	open(t, e, ahead)
}

// An unwrap that began before a change of the KEK must not put its data key back into the cache after it.
func TestUnwrapUnderWayDoesNotOutliveTheChange(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		service := aeadtest.NewKeyService(t)
		e := newEnvelope(t, service)
		sealed := seal(t, newEnvelope(t, service), "message")
		service.Delay(time.Second)
		var wg sync.WaitGroup
		wg.Go(func() { open(t, e, sealed) }) // serves its caller, who asked before
		time.Sleep(500 * time.Millisecond)
		service.Refuse(true)
		e.KEKChanged()
		wg.Wait()
		if _, err := e.DecryptWithContext(t.Context(), sealed, nil); !errors.Is(err, aead.ErrUnauthentic) {
			t.Errorf("after the change: %v", err)
		}
	})
}

// The same for a data key that was being wrapped, and for one being confirmed.
func TestWrapUnderWayDoesNotOutliveTheChange(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		service := aeadtest.NewKeyService(t)
		e := newEnvelope(t, service, aead.WithMaxAge(time.Hour), aead.WithDataKeyTTL(time.Hour))
		sealed := seal(t, e, "message")
		time.Sleep(50 * time.Minute)
		service.Delay(time.Second)
		seal(t, e, "asks for a successor")
		open(t, e, sealed) // asks for a confirmation
		time.Sleep(500 * time.Millisecond)
		service.Rotate(t)
		service.DestroyOldKeys(t)
		e.KEKChanged()
		service.Delay(0)
		fresh := seal(t, e, "message")
		open(t, newEnvelope(t, service), fresh)
		if _, err := e.DecryptWithContext(t.Context(), sealed, nil); !errors.Is(err, aead.ErrUnauthentic) {
			t.Errorf("the old data key: %v", err)
		}
	})
}

// If no new data key can be made, the old one goes on only while a process can open what it seals.
func TestChangeWithoutNewDataKey(t *testing.T) {
	t.Parallel()
	for _, removed := range []bool{false, true} {
		r := newReloadable(t)
		e := newEnvelope(t, r.Keyring)
		first := r.Keys()[0].ID
		r.rotate(t)
		if removed {
			if err := r.manager.Delete(first); err != nil {
				t.Fatal(err)
			}
			r.write(t)
		}
		h, err := r.manager.Handle()
		if err != nil {
			t.Fatal(err)
		}
		r.exhaust(t, h)
		r.reload(t)
		_, err = e.EncryptWithContext(t.Context(), []byte("x"), nil)
		switch {
		case removed && !errors.Is(err, aead.ErrKeyServiceUnavailable):
			t.Errorf("the wrapping key is gone and no other is to be had: %v", err)
		case !removed && err != nil:
			t.Errorf("the wrapping key is still there: %v", err)
		}
	}
}

// exhaust makes the coming primary key one that seals no more.
func (r *reloadable) exhaust(t *testing.T, h *keyset.Handle) {
	t.Helper()
	entry, err := h.Primary()
	if err != nil {
		t.Fatal(err)
	}
	r.SetMessagesOf(entry.KeyID(), entry.Key(), aead.MaxRandomNonces)
}

func TestClosedEnvelopeIsNotCalledByItsKeyring(t *testing.T) {
	t.Parallel()
	r := newReloadable(t)
	e := newEnvelope(t, r.Keyring)
	if err := e.Close(); err != nil {
		t.Error(err)
	}
	e.KEKChanged()
	r.rotate(t)
	r.reload(t)
	if _, err := e.EncryptWithContext(t.Context(), nil, nil); !errors.Is(err, aead.ErrClosed) {
		t.Error(err)
	}
}

func TestMoreKeysMakeAnEnvelopeNoLonger(t *testing.T) {
	t.Parallel()
	r := newReloadable(t)
	e := newEnvelope(t, r.Keyring)
	for range 20 {
		r.rotate(t)
	}
	r.reload(t)
	if n := len(seal(t, e, "")); n != 99 {
		t.Errorf("%d bytes", n)
	}
}

// After a reload every data key is unknown, and a store may hold thousands of them. Where the KEK is local, that fails no
// read.
func TestManyDataKeysUnderAKeyringFailNoRead(t *testing.T) {
	t.Parallel()
	h, err := keyset.NewHandle(tinkaead.AES256GCMKeyTemplate())
	if err != nil {
		t.Fatal(err)
	}
	k, err := aead.NewKeyring(h)
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	e, err := aead.NewEnvelope(t.Context(), k, aead.WithDataKeyCache(8))
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	perMessage := tinkaead.NewKMSEnvelopeAEAD2(tinkaead.AES256GCMKeyTemplate(), k) // a data key for each message
	var group sync.WaitGroup
	for range 500 {
		group.Go(func() {
			for range 8 {
				sealed, err := perMessage.Encrypt([]byte("value"), nil)
				if err != nil {
					t.Error(err)
					return
				}
				if _, err := e.DecryptWithContext(t.Context(), sealed, nil); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	group.Wait()
}
