package hcvault_test

import (
	"context"
	"fmt"
	"log"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/aead/hcvault"
)

// A service opens its key once, and makes an Envelope under it. In Kubernetes the URI would end with
// "?auth=kubernetes&role=shop".
func ExampleOpener() {
	ctx := context.Background()
	kek, err := aead.OpenKEK(ctx, "hcvault://vault.example:8200/transit/keys/cache", hcvault.Opener{})
	if err != nil {
		log.Fatal(err)
	}
	defer kek.Close()
	envelope, err := aead.NewEnvelope(ctx, kek)
	if err != nil {
		log.Fatal(err)
	}
	defer envelope.Close()
	sealed, err := envelope.EncryptWithContext(ctx, []byte("value"), []byte("the key of the value"))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(len(sealed))
}
