package storetest_test

import (
	"errors"
	"testing"

	"github.com/eko/gocache/lib/v4/store"

	"github.com/sealcache/sealcache/stores/memorystore"
	"github.com/sealcache/sealcache/stores/storetest"
)

// A Keeper finds a buffer that was used again after the error of SetBytes, and no other.
func TestKeeperFindsBuffersThatChange(t *testing.T) {
	t.Parallel()
	m, err := memorystore.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.Close() })
	k, err := storetest.NewKeeper(m)
	if err != nil {
		t.Fatal(err)
	}
	buffer := []byte("value")
	if err := k.SetBytes(t.Context(), "k", buffer); err != nil {
		t.Fatal(err)
	}
	buffer[0] = 'x' // the store is done with it
	if n, err := k.Kept(); n != 0 || err != nil {
		t.Errorf("Kept: %d, %v", n, err)
	}
	k.Fail(true)
	if err := k.SetBytes(t.Context(), "k", buffer); !errors.Is(err, storetest.ErrKept) {
		t.Errorf("SetBytes: %v", err)
	}
	if n, err := k.Kept(); n != 1 || err != nil {
		t.Errorf("Kept: %d, %v", n, err)
	}
	if err := k.SetBytesWithTTL(t.Context(), "k", buffer, 0); !errors.Is(err, storetest.ErrKept) {
		t.Errorf("SetBytesWithTTL: %v", err)
	}
	buffer[0] = 'y'
	if n, err := k.Kept(); n != 2 || err == nil {
		t.Errorf("Kept after a change: %d, %v", n, err)
	}
	if _, err := storetest.NewKeeper(struct{ store.StoreInterface }{m}); err == nil {
		t.Error("NewKeeper took a store that is no BytesStore")
	}
	for _, none := range []store.StoreInterface{nil, (*memorystore.Store)(nil)} {
		if _, err := storetest.NewKeeper(none); err == nil || err.Error() != "storetest: NewKeeper: the inner store is nil" {
			t.Errorf("NewKeeper of %T: %v", none, err)
		}
	}
}
