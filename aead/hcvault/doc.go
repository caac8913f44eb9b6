// Package hcvault opens key-encryption keys of the transit engine of HashiCorp Vault and of OpenBao.
//
// Its Opener is for [aead.OpenKEK], for fxmodule (group "kek"), and for any other place that takes an aead.KEKOpener:
//
//	kek, err := aead.OpenKEK(ctx, "hcvault://vault.example:8200/transit/keys/cache", hcvault.Opener{})
//	...
//	defer kek.Close()
//	envelope, err := aead.NewEnvelope(ctx, kek)
//
// # The key
//
// Make a key of a type that authenticates associated data, such as aes256-gcm96. Do not set derived=true:
//
//	vault secrets enable transit
//	vault write -f transit/keys/cache type=aes256-gcm96
//
// The token needs these capabilities and no others:
//
//	path "transit/encrypt/cache" { capabilities = ["update"] }
//	path "transit/decrypt/cache" { capabilities = ["update"] }
//
// Do not grant create: Vault would then create a missing key at the first encryption.
//
// A ciphertext has the format of the transit engine. Tink's integration (tink-go-hcvault, NewClientWithAEADOptions) opens it.
// transit/rewrap can rewrap it.
//
// # The URI
//
//	hcvault://HOST[:PORT]/MOUNT/keys/NAME[?PARAMETER=VALUE&...]
//	hcvault:///MOUNT/keys/NAME
//
// With a host in the URI, the Opener uses https. It uses http only if VAULT_ADDR has the same host and the scheme http. Without a
// host, it uses VAULT_ADDR. The mount path may have several parts. The parameters are
//
//	namespace=team-a           the Vault namespace; the default is VAULT_NAMESPACE
//	auth=token                 the default: the token in VAULT_TOKEN, or in the file token-file=/path (a Vault agent can write it)
//	auth=approle               with role-id=..., and secret-id-file=/path or secret-id-env=NAME
//	auth=kubernetes            with role=..., and jwt-file=/path if the token is not where Kubernetes puts it
//	auth-mount=approle         where the login method is mounted; the default is the name of the method
//	decrypt-only=true          the KEK only decrypts: set it on the old key when you move to a new key
//
// Do not put a secret into the URI. The Opener refuses unknown parameters.
//
// # Settings
//
// VAULT_ADDR, VAULT_TOKEN, VAULT_NAMESPACE, VAULT_CACERT, VAULT_CAPATH, VAULT_CLIENT_CERT, VAULT_CLIENT_KEY,
// VAULT_TLS_SERVER_NAME, VAULT_SKIP_VERIFY, VAULT_CLIENT_TIMEOUT, VAULT_MAX_RETRIES, VAULT_PROXY_ADDR and VAULT_AGENT_ADDR
// work as Vault documents them. This package uses Vault's own client. It does not read the file that "vault login" writes.
//
// # Tokens
//
// The KEK renews its token before the token expires. If this is not possible, or Vault refuses the token, the KEK gets a new token:
// it logs in again (AppRole, Kubernetes, Opener.Auth), or reads the token file again. The KEK cannot replace a token of VAULT_TOKEN:
// set a new token and restart. Close ends the renewal.
//
// # Errors
//
// OpenKEK returns an error if the key, a capability or the token is missing, or if the server ignores associated data. The error
// names the key and the missing capability. If Vault answers 403, the Opener looks up its own token. So the error distinguishes a
// missing capability from an invalid token. No error shows a token.
//
//   - Decryption returns aead.ErrUnauthentic if the ciphertext does not authenticate.
//   - Decryption returns aead.ErrUnknownKey if the key was deleted. It also does so if the key version is below
//     min_decryption_version or above the latest version.
//   - Every other failure, and every failure to encrypt, is aead.ErrKeyServiceUnavailable. Examples are no connection, a
//     sealed Vault, 403, 429 and 5xx.
//
// errors.As finds the *api.ResponseError.
//
// All types are safe for concurrent use. Each HTTP request uses the context of the call.
package hcvault
