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
// # The URI
//
//	gcp-kms://projects/PROJECT/locations/LOCATION/keyRings/RING/cryptoKeys/KEY[?decrypt-only=true]
//
// With decrypt-only=true, the KEK decrypts and never encrypts. Set this parameter on the old key when you move to a new
// key.
//
// # Settings
//
// By default, the application default credentials of Google Cloud are used. Examples are GOOGLE_APPLICATION_CREDENTIALS,
// the login of gcloud, workload identity and the metadata server. To use other credentials or another endpoint, set
// Opener.Options.
//
// # Format and limits
//
// A ciphertext has the format of Tink's library for Google Cloud KMS (tink-go-gcpkms), so that library can decrypt it.
//
// Associated data is not encrypted, but a ciphertext decrypts only with the same associated data. KMS calls it additional
// authenticated data.
//
// KMS encrypts at most 65,536 bytes per call, with at most 65,536 bytes of associated data. With an HSM key, both together
// have at most 8,192 bytes.
//
// # Errors
//
// [aead.OpenKEK] tests the key. If the test fails, the error names the key, and the permission if one is missing. No error
// contains a credential.
//
// A failed decryption returns one of these errors:
//
//   - [aead.ErrUnauthentic]: the ciphertext or the associated data was altered, or another key of KMS encrypted the
//     ciphertext.
//   - [aead.ErrUnknownKey]: the key does not exist, or its version is disabled or destroyed.
//   - [aead.ErrKeyServiceUnavailable]: any other failure, such as no connection, a missing permission or a wrong checksum.
//
// For bytes that Cloud KMS never encrypted, the error is ErrUnauthentic or ErrUnknownKey. A failed encryption always
// returns aead.ErrKeyServiceUnavailable. To get the gRPC status of an error, call status.FromError.
//
// # Concurrency
//
// All types are safe for concurrent use. A call ends when its context ends. If KMS is unavailable, the client repeats the
// call until the context ends. If the context has no deadline, the client stops after 10 seconds.
package gcpkms
