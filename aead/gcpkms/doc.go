// Package gcpkms opens keys of Google Cloud KMS as key-encryption keys (KEKs) of package aead. A KEK encrypts other keys,
// which encrypt the data.
//
// Pass an [Opener] to [aead.OpenKEK]:
//
//	kek, err := aead.OpenKEK(ctx, "gcp-kms://projects/P/locations/europe-west1/keyRings/R/cryptoKeys/cache", gcpkms.Opener{})
//	...
//	defer kek.Close()
//	envelope, err := aead.NewEnvelope(ctx, kek)
//
// # The key
//
// The key must have the purpose ENCRYPT_DECRYPT (symmetric). The application needs the role
// roles/cloudkms.cryptoKeyEncrypterDecrypter on the key. The role contains two permissions:
// cloudkms.cryptoKeyVersions.useToEncrypt and cloudkms.cryptoKeyVersions.useToDecrypt.
//
// When you move to a new key, add ?decrypt-only=true to the URI of the old key. The KEK with this URI then decrypts and
// never encrypts. [aead.NewKEKSet] combines it with the KEK of the new key.
//
// # Settings
//
// By default, the application default credentials of Google Cloud are used. Examples are GOOGLE_APPLICATION_CREDENTIALS,
// the login of gcloud, workload identity and the metadata server. To use other credentials or another endpoint, set
// Opener.Options.
//
// # Errors and concurrency
//
// [aead.OpenKEK] tests the key. If the test fails, the error contains the name of the key. If a permission is
// missing, the error also says which permission. No error contains a credential. The comment of [Opener.OpenKEK]
// lists the errors of a KEK.
//
// All types are safe for concurrent use. A call ends when its context ends. If KMS is unavailable, the client repeats the
// call until the context ends, or for 10 seconds if the context has no deadline.
//
// # Format
//
// A ciphertext has the format of tink-go-gcpkms, Tink's library for Google Cloud KMS. The library can decrypt the
// ciphertext.
package gcpkms
