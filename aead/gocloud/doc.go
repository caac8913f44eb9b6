// Package gocloud opens key-encryption keys of Azure Key Vault, and of any other service that has a Keeper of Go Cloud
// (gocloud.dev/secrets).
//
// Its Opener is for [aead.OpenKEK], for fxmodule (group "kek"), and for any other place that takes an aead.KEKOpener:
//
//	kek, err := aead.OpenKEK(ctx, "azurekeyvault://shop.vault.azure.net/keys/cache/0123456789abcdef0123456789abcdef", gocloud.Opener{})
//	...
//	defer kek.Close()
//
// Opener.Keepers opens the Keepers of other services by URI. [NewKEK] returns a KEK that uses a Keeper of the application. For
// Vault, AWS and Google Cloud, use the packages hcvault, awskms and gcpkms instead. Their ciphertexts have Tink's formats, and the
// service itself authenticates associated data.
//
// # An RSA key does not authenticate
//
// Keys of Azure Key Vault are RSA keys. Azure does not treat the public key as a secret. With it, an attacker can wrap a data key
// and forge values that open. So do not give an Azure key to [aead.NewEnvelope]. Let it protect a keyset. Make the keyset once, and
// deploy it with the application:
//
//	sealcache keys create --kek "azurekeyvault://..." --out keyset.json
//
// The application opens the keyset with the Azure key. The Keyring of the keyset is then the KEK of the Envelope:
//
//	keyring, err := aead.OpenKeyring(ctx, aead.FileSource("keyset.json"), kek)
//	...
//	keys, err := aead.NewEnvelope(ctx, keyring)
//
// To forge values, an attacker must then change the keyset file. Access to the store is not enough.
//
// # The URI
//
//	azurekeyvault://VAULT.vault.azure.net/keys/NAME/VERSION[?algorithm=RSA-OAEP-256][&decrypt-only=true]
//
// The URI must have the version, because a ciphertext does not contain it. Without a version, Azure decrypts only under the latest
// one. After a rotation, nothing would open. So open both versions, the old one with decrypt-only=true, and combine them in an
// aead.KEKSet. The algorithm is RSA-OAEP-256 or RSA-OAEP, because the other algorithms do not detect an altered ciphertext.
//
// The principal needs the key permissions encrypt and decrypt (role "Key Vault Crypto User"). Credentials are those of
// azidentity.NewDefaultAzureCredential: AZURE_CLIENT_ID and others, workload identity, managed identity, the Azure CLI.
//
// # Format
//
// A Keeper takes no associated data. So this package encrypts a hash of the associated data together with the plaintext.
//
// An RSA key of 2048 bits encrypts at most 190 bytes. So this package encrypts a plaintext over 96 bytes, such as a keyset, with
// AES-256-GCM. The Keeper encrypts the AES key. FORMAT.md specifies the bytes.
//
// # Errors
//
// OpenKEK returns an error if the key is missing or disabled, or a permission is missing. The error names the key and the missing
// permission. No error shows a credential.
//
//   - Decryption returns aead.ErrUnauthentic if the ciphertext does not open.
//   - Decryption returns aead.ErrUnknownKey if the key is disabled or missing.
//   - Every other failure, and every failure to encrypt, is aead.ErrKeyServiceUnavailable.
//
// The package recognizes a refusal by the codes InvalidArgument and NotFound of gcerrors. Some Keepers, such as localsecrets,
// return no codes. With them, an altered ciphertext is aead.ErrKeyServiceUnavailable.
//
// All types are safe for concurrent use. Each request uses the context of the call.
package gocloud
