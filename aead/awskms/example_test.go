package awskms_test

import (
	"context"
	"fmt"
	"log"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/aead/awskms"
)

// A service opens its key once, and makes an Envelope under it. Credentials come from the SDK's chain.
func ExampleOpener() {
	ctx := context.Background()
	const uri = "aws-kms://arn:aws:kms:eu-west-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
	kek, err := aead.OpenKEK(ctx, uri, awskms.Opener{})
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
