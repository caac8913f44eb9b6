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
// Make a key of a type that authenticates associated data. It must not be derived, which is the default:
//
//	vault secrets enable transit
//	vault write -f transit/keys/cache type=aes256-gcm96
//
// The token needs these capabilities and no others:
//
//	path "transit/encrypt/cache" { capabilities = ["update"] }
//	path "transit/decrypt/cache" { capabilities = ["update"] }
//
// Do not grant create: Vault would then make a missing key when it is asked to encrypt under it.
//
// Ciphertexts are those of the transit engine. Tink's integration (tink-go-hcvault, NewClientWithAEADOptions) opens them, and
// they can be rewrapped with transit/rewrap.
//
// # The URI
//
//	hcvault://HOST[:PORT]/MOUNT/keys/NAME[?PARAMETER=VALUE&...]
//	hcvault:///MOUNT/keys/NAME
//
// A URI with a host means https, unless VAULT_ADDR names the same host and says http. A URI without a host uses VAULT_ADDR.
// The mount path may have several parts. The parameters are
//
//	namespace=team-a           the Vault namespace; the default is VAULT_NAMESPACE
//	auth=token                 the default: VAULT_TOKEN, or token-file=/path, such as the sink of a Vault agent
//	auth=approle               with role-id=..., and secret-id-file=/path or secret-id-env=NAME
//	auth=kubernetes            with role=..., and jwt-file=/path if the token is not where Kubernetes puts it
//	auth-mount=approle         where the login method is mounted; the default is the name of the method
//	decrypt-only=true          the key only decrypts: for the old key after you move to a new one
//
// A URI holds no secret: an unknown parameter is refused.
//
// # Settings
//
// VAULT_ADDR, VAULT_TOKEN, VAULT_NAMESPACE, VAULT_CACERT, VAULT_CAPATH, VAULT_CLIENT_CERT, VAULT_CLIENT_KEY,
// VAULT_TLS_SERVER_NAME, VAULT_SKIP_VERIFY, VAULT_CLIENT_TIMEOUT, VAULT_MAX_RETRIES, VAULT_PROXY_ADDR and VAULT_AGENT_ADDR
// work as Vault documents them. This package uses Vault's own client. It does not read the file that "vault login" writes.
//
// # Tokens
//
// A token is renewed before it expires. A login (AppRole, Kubernetes, Opener.Auth) is repeated when its token cannot be
// renewed any more, and when Vault refuses the token. A token file is read again at those times. Renewal ends with Close.
//
// # Errors
//
// A missing key, a missing capability, a missing token and a server that ignores associated data are errors of OpenKEK. They
// name the key and the capability. If Vault denies a call of OpenKEK, the token is looked up, to tell a missing capability from a
// token that is wrong or has ended. No error shows a token.
//
// A ciphertext that does not authenticate is aead.ErrUnauthentic. One under a deleted key, under a version below
// min_decryption_version or above the latest, is aead.ErrUnknownKey. Every other failure is aead.ErrKeyServiceUnavailable:
// no connection, a sealed Vault, 403, 429, 5xx. errors.As finds the *api.ResponseError.
//
// All types are safe for concurrent use. The context of a call reaches the wire.
package hcvault
