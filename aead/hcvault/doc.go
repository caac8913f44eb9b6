// Package hcvault opens keys of HashiCorp Vault and OpenBao as key-encryption keys (KEKs) of package aead. A KEK
// encrypts other keys, which encrypt the data. The KEKs are in Vault's transit engine. The engine encrypts and decrypts
// for the application, and never reveals a KEK.
//
// Pass an [Opener] to [aead.OpenKEK]:
//
//	kek, err := aead.OpenKEK(ctx, "hcvault://vault.example:8200/transit/keys/cache", hcvault.Opener{})
//	...
//	defer kek.Close()
//	envelope, err := aead.NewEnvelope(ctx, kek)
//
// # The key
//
// Make a key of a type that authenticates associated data, such as aes256-gcm96. Do not set derived=true. For example:
//
//	vault secrets enable transit
//	vault write -f transit/keys/cache type=aes256-gcm96
//
// The application's token needs these capabilities and no others:
//
//	path "transit/encrypt/cache" { capabilities = ["update"] }
//	path "transit/decrypt/cache" { capabilities = ["update"] }
//
// Do not grant the capability "create". With this capability, Vault makes a missing key at the first encryption.
//
// # Login
//
// By default, the token is in VAULT_TOKEN. The comment of [Opener.OpenKEK] lists the other logins, such as AppRole and
// Kubernetes, and all parameters of the URI. Do not put a secret into the URI.
//
// The KEK renews its token before the token expires. If Vault does not renew the token, or refuses it, the KEK gets a
// new token. For that, it logs in again (AppRole, Kubernetes, Opener.Auth), or reads the token file again. With VAULT_TOKEN,
// the KEK cannot get a new token: when the token ends, set a new one and restart the process. The method Close of the KEK
// ends the renewal.
//
// # Errors and concurrency
//
// [aead.OpenKEK] tests the key. If the test fails, the error contains the name of the key. If a capability is
// missing, the error also says which capability. No error contains a token. The comment of [Opener.OpenKEK]
// lists the errors of a KEK.
//
// All types are safe for concurrent use. A call ends when its context ends.
//
// # Format
//
// A ciphertext has the format of the transit engine, so transit/rewrap can encrypt it again under a new key version.
// Tink's library for Vault (tink-go-hcvault, NewClientWithAEADOptions) can decrypt it.
package hcvault
