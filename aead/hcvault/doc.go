// Package hcvault opens keys of HashiCorp Vault and OpenBao as key-encryption keys (KEKs) of package aead. A KEK encrypts
// other keys, which encrypt the data. The keys are in Vault's transit engine, which encrypts without revealing its keys.
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
// Make a key of a type that authenticates associated data, such as aes256-gcm96. Associated data is not encrypted, but a
// ciphertext decrypts only with the same associated data. Do not set derived=true. For example:
//
//	vault secrets enable transit
//	vault write -f transit/keys/cache type=aes256-gcm96
//
// The application's token needs these capabilities and no others:
//
//	path "transit/encrypt/cache" { capabilities = ["update"] }
//	path "transit/decrypt/cache" { capabilities = ["update"] }
//
// Do not grant the capability create. Vault would then make a missing key at the first encryption.
//
// A ciphertext has the format of the transit engine, so transit/rewrap can encrypt it again under a new key version.
// Tink's library for Vault (tink-go-hcvault, NewClientWithAEADOptions) can decrypt it.
//
// # The URI
//
//	hcvault://HOST[:PORT]/MOUNT/keys/NAME[?PARAMETER=VALUE&...]
//	hcvault:///MOUNT/keys/NAME
//
// If the URI has a host, the Opener uses https. It uses http only if VAULT_ADDR has the same host and the scheme http.
// Without a host, it uses VAULT_ADDR. The mount path may have several parts. The parameters are:
//
//	namespace=team-a           the Vault namespace; the default is VAULT_NAMESPACE
//	auth=token                 the default: the token in VAULT_TOKEN, or in the file token-file=/path (a Vault agent can write it)
//	auth=approle               with role-id=..., and secret-id-file=/path or secret-id-env=NAME
//	auth=kubernetes            with role=..., and jwt-file=/path if the token is not where Kubernetes puts it
//	auth-mount=approle         where the login method is mounted; the default is the name of the method
//	decrypt-only=true          the KEK decrypts and never encrypts: set it on the old key when you move to a new key
//
// Do not put a secret into the URI. Unknown parameters are errors. White space around the content of a file is ignored, and an
// empty file is an error. For a role with bind_secret_id=false, write any text into the file: Vault ignores it.
//
// # Settings
//
// VAULT_ADDR, VAULT_TOKEN, VAULT_NAMESPACE, VAULT_CACERT, VAULT_CAPATH, VAULT_CLIENT_CERT, VAULT_CLIENT_KEY,
// VAULT_TLS_SERVER_NAME, VAULT_SKIP_VERIFY, VAULT_CLIENT_TIMEOUT, VAULT_MAX_RETRIES, VAULT_PROXY_ADDR and VAULT_AGENT_ADDR
// work as Vault documents them. The package does not read the file that "vault login" writes.
//
// # Tokens
//
// The KEK renews its token before the token expires. If Vault does not renew the token, or refuses it, the KEK gets a new
// one. It logs in again (AppRole, Kubernetes, Opener.Auth), or reads the token file again. A token from VAULT_TOKEN cannot
// be replaced: set a new one and restart the process. Close ends the renewal.
//
// # Errors
//
// [aead.OpenKEK] tests the key. If the test fails, the error names the key, and the capability if one is missing. No error
// contains a token.
//
// A failed decryption returns one of these errors:
//
//   - [aead.ErrUnauthentic]: the ciphertext or the associated data was altered, or another key of Vault encrypted the
//     ciphertext.
//   - [aead.ErrUnknownKey]: the key or its version was deleted, or Vault no longer allows the version
//     (min_decryption_version).
//   - [aead.ErrKeyServiceUnavailable]: any other failure, such as no connection, a sealed Vault or a missing capability.
//
// For bytes that Vault never encrypted, the error is ErrUnauthentic or ErrUnknownKey. A failed encryption always returns
// aead.ErrKeyServiceUnavailable. To find Vault's own error, use errors.As with an *api.ResponseError.
//
// # Concurrency
//
// All types are safe for concurrent use. A call ends when its context ends.
package hcvault
