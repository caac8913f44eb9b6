package aead_test

import (
	"bytes"
	"sync/atomic"
	"testing"
	"testing/synctest"

	tinkaead "github.com/tink-crypto/tink-go/v2/aead"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/aead/aeadtest"
	"github.com/sealcache/sealcache/aead/insecurecleartextkeyset"
)

// A call that finds a changed keyset does not wait for the subscribers. Close does.
func TestCloseWaitsForSubscribers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		source := new(changingSource)
		change := func() {
			var b bytes.Buffer
			if err := insecurecleartextkeyset.CreateKeyset(&b, tinkaead.AES256GCMKeyTemplate()); err != nil {
				t.Fatal(err)
			}
			source.data = b.Bytes()
		}
		change()
		ring, err := insecurecleartextkeyset.OpenKeyring(t.Context(), source, aead.WithLogger(silent()))
		if err != nil {
			t.Fatal(err)
		}
		proceed := make(chan struct{})
		var told atomic.Int32
		var closed atomic.Bool
		ring.OnReload(func() {
			<-proceed
			told.Add(1)
		})
		change()
		if err := ring.ReadAgain(t.Context()); err != nil {
			t.Fatal(err)
		}
		go func() {
			if err := ring.Close(); err != nil {
				t.Error(err)
			}
			closed.Store(true)
		}()
		synctest.Wait()
		if closed.Load() {
			t.Error("Close has returned before a subscriber")
		}
		change()
		_ = ring.ReadAgain(t.Context()) // it may or may not be closed
		close(proceed)
		synctest.Wait()
		if told.Load() != 1 || !closed.Load() {
			t.Errorf("the subscriber was told %d times, Close has returned: %v", told.Load(), closed.Load())
		}
	})
}

// All subscribers are told at once. One of them may wait for a member of a KEKSet that hangs.
func TestSubscribersAreToldAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ring := newReloadable(t)
		set := newKEKSet(t, ring.Keyring, aeadtest.NewKeyService(t))
		var told atomic.Int32
		proceed := make(chan struct{})
		for range 3 {
			set.OnReload(func() {
				told.Add(1)
				<-proceed
			})
		}
		ring.rotate(t)
		go func() {
			if err := ring.Reload(t.Context()); err != nil {
				t.Error(err)
			}
		}()
		synctest.Wait()
		if n := told.Load(); n != 3 {
			t.Errorf("%d of 3 subscribers were told", n)
		}
		close(proceed)
		synctest.Wait()
	})
}
