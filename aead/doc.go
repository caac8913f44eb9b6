// Package aead seals and opens bytes under keys that it loads, wraps, reloads and replaces.
//
// It works on bytes, keys and contexts. It does not depend on caches, stores or jobs. Its formats are Tink's to the byte:
// given the same keys, Tink in any language opens its ciphertexts.
//
// # What to call first
//
// Open a key-encryption key (KEK), make an [Envelope] under it, and close both at the end:
//
//	kek, err := aead.OpenKEK(ctx, "file:///run/secrets/kek.json")
//	...
//	envelope, err := aead.NewEnvelope(ctx, kek)
//	...
//	defer envelope.Close()
//
// [Envelope] is for most applications. It makes data keys, has the KEK wrap them, and uses each for many messages. A key service
// is then called a few times a day, and not twice per message.
//
// [Keyring] is a Tink keyset that is read from a [Source] under a KEK, and that can be reloaded while it is in use. A Keyring
// adds only 33 bytes to a message. Where there is no key service, a Keyring serves as the KEK of an Envelope. Used directly, it
// suits applications with few writes.
//
// [KEKSet] combines several KEKs, so that an application can move from an old KEK to a new one. [OpenKEK] opens a KEK by URI.
// [CreateKeyset] writes a new keyset, sealed under a KEK. [WithContext] adapts a local Tink AEAD.
// Only the package aead/insecurecleartextkeyset reads and writes keysets in plaintext.
//
// # How keys are handled
//
// Keys are tested before they seal. A Keyring seals and opens a test message. An Envelope has the KEK unwrap each new data key
// and compares the result with the key. A data key from a stored value counts as tested once a value has authenticated under it.
//
// A data key has limits for messages, bytes and age, and is replaced before it reaches one. The old data key seals until the
// new one is tested. No data key passes a limit, not even in an outage. Unwrapped data keys are dropped after WithDataKeyTTL,
// unless the KEK confirms them. If you destroy a KEK, the values become unreadable after this time.
//
// A keyset is replaced as a whole. If the new one cannot be read, the old one stays in service.
//
// Keys are in the memory of the process while they are in use. No error, log line or formatted value holds key material.
//
// # How many messages one key may seal
//
// AES-GCM and ChaCha20-Poly1305 draw a random 96-bit nonce for each message. Two messages under one key and one nonce betray
// both messages and the authentication key. NIST SP 800-38D (section 8.3) therefore allows at most 2^32 random nonces per key,
// over all processes together. The chance of a repetition is then about 2^-33. A cache that writes 100,000 values per second
// reaches the bound in twelve hours.
//
// An Envelope keeps the bound, because each process makes its own data keys and replaces them long before. A Keyring
// shares its keys with every process that loads the keyset, and counts only its own messages. It warns at 2^28,
// because sixteen processes that share the key evenly have then reached the bound. It refuses at 2^32. For more
// messages use an Envelope, or XAES-256-GCM keys (Tink's XAES256GCM192BitNonceKeyTemplate), whose longer nonces need
// no counting.
//
// # Errors
//
// [ErrUnauthentic] and [ErrUnknownKey] are definite: the bytes do not open under these keys. [ErrKeyServiceUnavailable] and
// [ErrTooManyDataKeys] say nothing about the bytes: try again later. Context errors and the key service's own error are found by
// errors.Is and errors.As.
//
// # Concurrency
//
// All types are safe for concurrent use. The caller must not change buffers given to a call until it returns.
//
// # Compatibility
//
// From version 1 on, later releases open what earlier ones sealed. The wrapped data keys of a passphrase KEK have a format of this package, which
// FORMAT.md describes. All other bytes are Tink's.
package aead
