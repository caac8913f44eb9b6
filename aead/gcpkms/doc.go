// Package gcpkms opens key-encryption keys of Google Cloud KMS.
//
// Its Opener is for [aead.OpenKEK], for fxmodule (group "kek"), and for any other place that takes an aead.KEKOpener:
//
//	kek, err := aead.OpenKEK(ctx, "gcp-kms://projects/P/locations/europe-west1/keyRings/R/cryptoKeys/cache", gcpkms.Opener{})
//	...
//	defer kek.Close()
//	envelope, err := aead.NewEnvelope(ctx, kek)
//
// # The key
//
// The key must have the purpose ENCRYPT_DECRYPT (symmetric). The principal needs the role
// roles/cloudkms.cryptoKeyEncrypterDecrypter on the key. The role contains the permissions
// cloudkms.cryptoKeyVersions.useToEncrypt and cloudkms.cryptoKeyVersions.useToDecrypt.
//
// A ciphertext has the format of Tink's integration (tink-go-gcpkms). KMS gets the associated data as additional authenticated
// data.
//
// # The URI
//
//	gcp-kms://projects/PROJECT/locations/LOCATION/keyRings/RING/cryptoKeys/KEY[?decrypt-only=true]
//
// With decrypt-only=true, the KEK only decrypts. Set it on the old key when you move to a new key.
//
// # Settings
//
// Credentials are the application default credentials: GOOGLE_APPLICATION_CREDENTIALS, gcloud, workload identity, the metadata
// server. Opener.Options can set other credentials or another endpoint.
//
// # Limits
//
// KMS encrypts up to 65,536 bytes, with up to 65,536 bytes of associated data. For HSM keys, data and associated data together
// may have at most 8,192 bytes.
//
// # Errors
//
// OpenKEK returns an error if the key is missing or disabled, or a permission is missing. The error names the key and the missing
// permission. No error shows a credential.
//
//   - Decryption returns aead.ErrUnauthentic if the ciphertext does not authenticate.
//   - Decryption returns aead.ErrUnknownKey if the key is missing. It also does so if the key version is disabled, destroyed or
//     scheduled for destruction.
//   - Every other failure, and every failure to encrypt, is aead.ErrKeyServiceUnavailable. Examples are no connection,
//     PERMISSION_DENIED, RESOURCE_EXHAUSTED and a wrong checksum.
//
// status.FromError returns the gRPC status of an error.
//
// All types are safe for concurrent use. Each request uses the context of the call. While the service is unavailable, the client
// repeats a call until the deadline of the context. Without a deadline, it stops after 10 seconds.
package gcpkms
