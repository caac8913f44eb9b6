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
// roles/cloudkms.cryptoKeyEncrypterDecrypter on the key, which has the permissions
// cloudkms.cryptoKeyVersions.useToEncrypt and cloudkms.cryptoKeyVersions.useToDecrypt.
//
// Ciphertexts are those of Tink's integration (tink-go-gcpkms). Associated data is the additional authenticated data of KMS.
//
// # The URI
//
//	gcp-kms://projects/PROJECT/locations/LOCATION/keyRings/RING/cryptoKeys/KEY[?decrypt-only=true]
//
// With decrypt-only=true the key only decrypts. Use it for the old key after you move to a new one.
//
// # Settings
//
// Credentials are the application default credentials: GOOGLE_APPLICATION_CREDENTIALS, gcloud, workload identity, the metadata
// server. Opener.Options sets others, or another endpoint.
//
// # Limits
//
// KMS encrypts up to 65,536 bytes, with up to 65,536 bytes of associated data. For HSM keys, data and associated data together
// may have at most 8,192 bytes.
//
// # Errors
//
// A missing key, a missing permission and a disabled key are errors of OpenKEK. They name the key and the permission. No error
// shows a credential.
//
// A ciphertext that does not authenticate is aead.ErrUnauthentic. A key version that is disabled, destroyed or waits for its
// destruction, and a missing key, are aead.ErrUnknownKey. Every other failure is aead.ErrKeyServiceUnavailable: no connection,
// PERMISSION_DENIED, RESOURCE_EXHAUSTED, a checksum that does not match. status.FromError finds the status of gRPC.
//
// All types are safe for concurrent use. The context of a call reaches the wire. While the service is unavailable, the client
// repeats a call until its deadline, or for 10 seconds.
package gcpkms
