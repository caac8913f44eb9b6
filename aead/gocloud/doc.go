// Package gocloud opens key-encryption keys of Azure Key Vault, and of any other service that has a Keeper of Go Cloud
// (gocloud.dev/secrets).
//
// Its Opener is for [aead.OpenKEK], for fxmodule (group "kek"), and for any other place that takes an aead.KEKOpener:
//
//	kek, err := aead.OpenKEK(ctx, "azurekeyvault://shop.vault.azure.net/keys/cache/0123456789abcdef0123456789abcdef", gocloud.Opener{})
//	...
//	defer kek.Close()
//
// [NewKEK] makes a KEK of a Keeper that the application has opened. For Vault, AWS and Google Cloud use the packages hcvault,
// awskms and gcpkms instead: their ciphertexts are Tink's, and the service itself authenticates associated data.
//
// # An RSA key does not authenticate
//
// Keys of Azure Key Vault are RSA keys. An attacker who reads the public key, which Azure does not treat as a secret, can
// wrap a data key of the attacker and so make values that open. Do not wrap the data keys in your store with such a key.
// Seal a keyset under it, mount the keyset with the application, and let the keyset wrap the data keys:
//
//	sealcache keys create --kek "azurekeyvault://..." --out keyset.json
//
// An attacker must then change the mounted file, and not only the store.
//
// # The URI
//
//	azurekeyvault://VAULT.vault.azure.net/keys/NAME/VERSION[?algorithm=RSA-OAEP-256][&decrypt-only=true]
//
// The version is required: a ciphertext does not name it, and Azure would decrypt under the latest version only, so that a
// rotation would leave everything unreadable. After a rotation, open the new version, and the old one with decrypt-only=true.
//
// The principal needs the key permissions encrypt and decrypt (role "Key Vault Crypto User"). Credentials are those of
// azidentity.NewDefaultAzureCredential: AZURE_CLIENT_ID and others, workload identity, managed identity, the Azure CLI.
//
// # Format
//
// A Keeper takes no associated data, so a hash of it is encrypted with the plaintext. FORMAT.md has the bytes. Plaintexts over
// 96 bytes, such as keysets, are sealed with AES-256-GCM under a key that the Keeper encrypts, because RSA keys of 2048 bits
// encrypt 190 bytes at most.
//
// # Errors
//
// A missing key, a missing permission and a disabled key are errors of OpenKEK. They name the key and the permission. No error
// shows a credential.
//
// A ciphertext that does not open is aead.ErrUnauthentic. A key that is disabled or missing is aead.ErrUnknownKey. Every other
// failure is aead.ErrKeyServiceUnavailable. A Keeper refuses by the codes InvalidArgument and NotFound of gcerrors; with a
// Keeper that has no codes, such as localsecrets, bytes that do not open count as an outage.
//
// All types are safe for concurrent use. The context of a call reaches the wire.
package gocloud
