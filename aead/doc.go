// Package aead seals and opens bytes with Tink, and manages the keys for this. It loads, wraps, reloads and replaces keys.
//
// The package does not depend on caches, stores or jobs.
//
// # What to call first
//
// Open a key-encryption key (KEK) and make an [Envelope] with it. Close both at the end:
//
//	kek, err := aead.OpenKEK(ctx, "file:///run/secrets/kek.json")
//	...
//	defer kek.Close()
//	envelope, err := aead.NewEnvelope(ctx, kek)
//	...
//	defer envelope.Close() // runs before kek.Close
//
// An [Envelope] is right for most applications. It makes data keys, and the KEK encrypts ("wraps") each data key. The Envelope
// seals many messages under one data key. So a key service gets a few calls per day instead of one for each message.
//
// A [Keyring] is a Tink keyset that is read from a [Source] and opened with a KEK. It can be reloaded while it is in use. Without a
// key service, use a Keyring as the KEK of an Envelope. An application with few writes can also seal with the Keyring itself. With
// AES-GCM keys, a Keyring adds only 33 bytes to a message.
//
// The other functions are:
//
//   - [OpenKEK] opens a KEK by URI.
//   - [KEKSet] combines several KEKs, so that an application can move from an old KEK to a new one.
//   - [CreateKeyset] writes a new keyset, sealed under a KEK.
//   - [OpenPRF] opens a keyset of PRF keys. They hide names and make unique jobs possible.
//   - [WithTenants] gives each tenant its own KEK.
//   - [WithContext] adapts a local Tink AEAD.
//
// Only package aead/insecurecleartextkeyset writes plaintext keysets. OpenKEK reads a plaintext keyset from a file:// URI.
//
// # How keys are handled
//
// Each key is tested before it seals. A Keyring seals and opens a test message. An Envelope has the KEK unwrap each new data key,
// and compares the result with the data key. A data key from a stored value may seal only after a value has authenticated under it.
//
// A data key has limits for messages, bytes and age. The Envelope makes a new data key before the old one reaches a limit. The old
// data key seals until the new one is tested. In a long outage of the KEK, the old data key reaches a limit. Sealing then fails
// with [ErrKeyServiceUnavailable].
//
// An Envelope drops an unwrapped data key after the time of WithDataKeyTTL, unless the KEK unwraps the data key again. If you
// destroy a KEK, the values under its data keys become unreadable after this time.
//
// A Keyring replaces its keyset as a whole. If it cannot read the new keyset, it keeps the old one.
//
// Keys are in the memory of the process while they are in use. No error, log line or formatted value holds key material.
//
// # How many messages one key may seal
//
// AES-GCM and ChaCha20-Poly1305 draw a random 96-bit nonce for each message. Two messages under the same key and nonce reveal
// both messages and the authentication key. NIST SP 800-38D (section 8.3) therefore allows at most 2^32 random nonces per key. All
// processes that share the key count together. The probability that a nonce repeats is then about 2^-33. A cache with 100,000
// writes per second reaches this limit in twelve hours.
//
// An Envelope keeps the limit, because each process makes its own data keys and replaces them early.
//
// A Keyring shares its keys with every process that loads the keyset. It counts only its own messages. At 2^28 messages it logs a
// warning: sixteen equally busy processes have then reached the limit together. At 2^32 messages it returns [ErrKeyExhausted]. For
// more messages, use an Envelope, or XAES-256-GCM keys (Tink's XAES256GCM192BitNonceKeyTemplate). Their nonces are longer and need
// no counting.
//
// # Errors
//
// [ErrUnauthentic] and [ErrUnknownKey] are definite: the bytes do not open under these keys. After [ErrKeyServiceUnavailable] or
// [ErrTooManyDataKeys], the bytes may still open later. errors.Is and errors.As find context errors and the key service's own
// error.
//
// # Concurrency
//
// All types are safe for concurrent use. The caller must not change the buffers of a call before the call returns.
//
// # Formats and compatibility
//
// A Keyring and a plain Envelope write exactly Tink's formats. Tink in any language opens their ciphertexts with the same keys.
// Passphrase KEKs, tenants and wrap contexts ([WithWrapContext]) have formats of this package. FORMAT.md describes them.
//
// From release v1 on, each release opens the values of earlier releases.
package aead
