// Package gocloud opens keys of Azure Key Vault as key-encryption keys (KEKs) of package aead. A KEK encrypts other keys,
// which encrypt the data. The package also opens keys of other services, if the Go Cloud library (gocloud.dev/secrets) has
// a Keeper for the service. A Keeper encrypts and decrypts with one key.
//
// Pass an [Opener] to [aead.OpenKEK]:
//
//	kek, err := aead.OpenKEK(ctx, "azurekeyvault://shop.vault.azure.net/keys/cache/0123456789abcdef0123456789abcdef", gocloud.Opener{})
//	...
//	defer kek.Close()
//
// For other services, set Opener.Keepers, or call [NewKEK] with a Keeper. For Vault, AWS and Google Cloud, use packages
// hcvault, awskms and gcpkms instead. Tink can decrypt their ciphertexts.
//
// # Do not use an Azure key for an Envelope
//
// Keys of Azure Key Vault are RSA keys, and Azure does not keep the public key secret. An Envelope
// stores an encrypted data key with each value. An attacker with the public key can make such a data key, and write values
// that the application accepts as genuine. So do not give an Azure key to [aead.NewEnvelope]. Let it protect a
// keyset, a file with Tink keys. Make the keyset once, and deploy it with the application:
//
//	sealcache keys create --kek "azurekeyvault://..." --out keyset.json
//
// The application opens the keyset with the Azure key. The result, a Keyring, is then the KEK of the Envelope:
//
//	keyring, err := aead.OpenKeyring(ctx, aead.FileSource("keyset.json"), kek)
//	...
//	keys, err := aead.NewEnvelope(ctx, keyring)
//
// To forge values, an attacker must then change the keyset file. Access to the cache is not enough.
//
// # The URI
//
//	azurekeyvault://VAULT.vault.azure.net/keys/NAME/VERSION[?algorithm=RSA-OAEP-256][&decrypt-only=true]
//
// The URI must contain the version of the key, because Azure decrypts only with the version of the URI. When you replace a
// version, open both versions, and combine them with [aead.NewKEKSet]. Open the old version with decrypt-only=true, so
// that it never encrypts.
//
// The algorithm is RSA-OAEP-256 (the default) or RSA-OAEP. The other algorithms of Azure do not detect altered
// ciphertexts.
//
// The application needs the key permissions encrypt and decrypt (role "Key Vault Crypto User"). Credentials are those of
// azidentity.NewDefaultAzureCredential. Examples are AZURE_CLIENT_ID, workload identity, managed identity and the Azure
// CLI.
//
// # Format
//
// FORMAT.md specifies the bytes. Associated data is not encrypted, but a ciphertext decrypts only with the same associated
// data. A Keeper takes no associated data, so the package encrypts a hash of it together with the plaintext. An RSA key
// encrypts only short plaintexts. So for more than 96 bytes, such as a keyset, the package encrypts with a new AES-256
// key, and the Keeper encrypts that key.
//
// # Errors
//
// [aead.OpenKEK] tests the key. If the test fails, the error names the key, and the permission if one is missing. No error
// contains a credential.
//
// A failed decryption returns one of these errors:
//
//   - [aead.ErrUnauthentic]: the ciphertext or the associated data was altered, or another key encrypted the ciphertext.
//   - [aead.ErrUnknownKey]: the key is disabled or does not exist.
//   - [aead.ErrKeyServiceUnavailable]: any other failure.
//
// For bytes that the service never encrypted, the error is ErrUnauthentic or ErrUnknownKey. A failed encryption always
// returns aead.ErrKeyServiceUnavailable.
//
// Some Keepers, such as localsecrets, return no error code for an altered ciphertext. With them, the error is
// aead.ErrKeyServiceUnavailable.
//
// # Concurrency
//
// All types are safe for concurrent use. A call ends when its context ends.
package gocloud
