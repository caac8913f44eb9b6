package gcpkms_test

import (
	"context"
	"fmt"
	"log"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/aead/gcpkms"
)

// A service opens its key once, and makes an Envelope under it, with the application default credentials.
func ExampleOpener() {
	ctx := context.Background()
	const uri = "gcp-kms://projects/shop/locations/europe-west1/keyRings/services/cryptoKeys/cache"
	kek, err := aead.OpenKEK(ctx, uri, gcpkms.Opener{})
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
