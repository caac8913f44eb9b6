package gocloud_test

import (
	"context"
	"log"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/aead/gocloud"
)

// The key of Azure opens a keyset, and the keyset wraps the data keys of an Envelope.
func ExampleOpener() {
	ctx := context.Background()
	const uri = "azurekeyvault://shop.vault.azure.net/keys/cache/0123456789abcdef0123456789abcdef"
	kek, err := aead.OpenKEK(ctx, uri, gocloud.Opener{})
	if err != nil {
		log.Fatal(err)
	}
	defer kek.Close()
	keyring, err := aead.OpenKeyring(ctx, aead.FileSource("/etc/shop/keyset.json"), kek)
	if err != nil {
		log.Fatal(err)
	}
	defer keyring.Close()
	envelope, err := aead.NewEnvelope(ctx, keyring)
	if err != nil {
		log.Fatal(err)
	}
	defer envelope.Close()
}
