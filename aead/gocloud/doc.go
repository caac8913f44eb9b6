// Package gocloud opens keys of Azure Key Vault as key-encryption keys (KEKs) of package aead. A KEK encrypts other keys,
// which encrypt the data. The package also opens keys of other services, if the Go Cloud library (gocloud.dev/secrets) has a
// Keeper for the service. A Keeper encrypts and decrypts with one key.
//
// Pass an [Opener] to [aead.OpenKEK]:
//
//	kek, err := aead.OpenKEK(ctx, "azurekeyvault://shop.vault.azure.net/keys/cache/0123456789abcdef0123456789abcdef", gocloud.Opener{})
//	...
//	defer kek.Close()
//
// For other services, set Opener.Keepers, or call [NewKEK] with a Keeper. For Vault, AWS KMS and Google Cloud KMS, use
// packages hcvault, awskms and gcpkms instead. Tink's own libraries can decrypt the ciphertexts of these three packages,
// but not those of package gocloud.
//
// # Do not use an Azure key for an Envelope
//
// Keys of Azure Key Vault are RSA keys, and Azure does not keep the public key secret. An Envelope stores an encrypted
// data key with each value. An attacker with the public key can encrypt a data key of the attacker's choice. The
// application then accepts values under this data key as genuine. So do not give an Azure key to [aead.NewEnvelope].
// Instead, encrypt a keyset (a file with Tink keys) with the Azure key. Make the keyset once, and deploy the file with the
// application:
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
// # Settings
//
// The URI must contain the version of the key: see [Opener.OpenKEK]. The application needs the key permissions encrypt and
// decrypt (role "Key Vault Crypto User"). Credentials are those of azidentity.NewDefaultAzureCredential. Examples are
// AZURE_CLIENT_ID, workload identity, managed identity and the Azure CLI.
//
// # Errors and concurrency
//
// [aead.OpenKEK] tests the key. If the test fails, the error contains the name of the key. If a permission is missing, the
// error also says which permission. No error contains a credential. The comment of [Opener.OpenKEK] lists the errors of a
// KEK.
//
// All types are safe for concurrent use. A call ends when its context ends. FORMAT.md specifies the bytes of a ciphertext.
package gocloud
