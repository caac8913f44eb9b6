package middleware_test

import (
	"bytes"
	"context"
	"fmt"
	"log"
	"strings"
	"time"

	"github.com/eko/gocache/lib/v4/store"
	tinkaead "github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/prf"
	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/middleware"
	"github.com/sealcache/sealcache/stores/memorystore"
)

// hiddenNames opens the PRF keyset and returns a store whose keys and tags the backing store cannot read.
func hiddenNames(ctx context.Context, backing store.StoreInterface, kek, keys tink.AEADWithContext, prfKeyset aead.Source) (*middleware.Store, error) {
	set, err := aead.OpenPRF(ctx, prfKeyset, kek)
	if err != nil {
		return nil, err
	}
	return middleware.New(backing, keys, middleware.WithNamespace("shop"), middleware.WithHiddenKeys(set))
}

// The backing store sees a pseudonym in place of the key.
func ExampleWithHiddenKeys() {
	ctx := context.Background()
	handle, err := keyset.NewHandle(tinkaead.AES256GCMKeyTemplate())
	if err != nil {
		log.Fatal(err)
	}
	kek, err := aead.NewKeyring(handle)
	if err != nil {
		log.Fatal(err)
	}
	keys, err := aead.NewEnvelope(ctx, kek)
	if err != nil {
		log.Fatal(err)
	}
	defer keys.Close()
	var prfKeyset bytes.Buffer
	if err := aead.CreateKeyset(ctx, &prfKeyset, kek, prf.HMACSHA256PRFKeyTemplate()); err != nil {
		log.Fatal(err)
	}
	backing, err := memorystore.New()
	if err != nil {
		log.Fatal(err)
	}
	defer backing.Close()
	sealed, err := hiddenNames(ctx, backing, kek, keys, aead.BytesSource(prfKeyset.Bytes()))
	if err != nil {
		log.Fatal(err)
	}
	if err := sealed.Set(ctx, "patient:ada@example.com", "diagnosis", store.WithExpiration(time.Hour)); err != nil {
		log.Fatal(err)
	}
	for name := range backing.Keys(ctx, "") {
		fmt.Println(strings.HasPrefix(name, "shop:"), strings.Contains(name, "ada"))
	}
	for key := range sealed.Keys(ctx) {
		fmt.Println(key)
	}
	// Output:
	// true false
	// patient:ada@example.com
}
