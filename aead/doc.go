// Package aead holds the keys: it seals and opens bytes under a keyset, or under data keys that a key service wraps.
//
// It knows bytes, keys and contexts, and nothing of caches, stores or jobs. Everything here speaks Tink's formats to
// the byte, so that what it seals is opened by Tink in any language, given the same keys.
//
// # What to use
//
// [Envelope] is what most applications want. It makes data keys, has them wrapped by a key-encryption key (KEK), and
// uses each for many messages, so that the key service is called a few times a day instead of twice per message:
//
//	kek, err := aead.OpenKEK(ctx, "file:///run/secrets/kek.json")
//	...
//	sealer, err := aead.NewEnvelope(ctx, kek)
//	...
//	defer sealer.Close()
//
// [Keyring] is a live Tink keyset, read from a [Source] under a KEK, that can be reloaded while it is in use. It adds
// the fewest bytes (33) and is the natural KEK of an Envelope when no key service is at hand. Used directly it is for
// few writes, as the next section says.
//
// [WithContext] adapts any local Tink AEAD. [OpenKEK] opens a KEK by URI. [CreateKeyset] writes a new keyset, sealed.
// A keyset in clear is read and written only by the package aead/insecurecleartextkeyset.
//
// # How many messages one key may seal
//
// AES-GCM and ChaCha20-Poly1305 draw a random 96-bit nonce for each message. Two messages under one key and one nonce
// betray both messages and the authentication key, so NIST SP 800-38D (section 8.3) allows at most 2^32 random nonces
// per key, over all processes together: the chance of a repetition is then about 2^-33. A cache that writes 100,000
// values a second is there in twelve hours.
//
// An Envelope keeps the bound by construction: each process makes its own data keys and retires them long before. A
// Keyring shares its keys with every process that loads the keyset, and can only count its own messages: it warns at
// 2^28 (sixteen processes that do the same are then at the bound) and refuses at 2^32. For more, use an Envelope, or
// XAES-256-GCM keys (Tink's XAES256GCM192BitNonceKeyTemplate), whose nonces are long enough not to be counted.
//
// # Errors
//
// Three errors tell callers what happened, through errors.Is: [ErrUnauthentic] (altered, moved, or another key: a
// definite no), [ErrUnknownKey] (well formed, but under a key that is not in the keyset) and
// [ErrKeyServiceUnavailable] (nobody said no: try later). Context errors, and the key service's own error, remain
// visible to errors.Is and errors.As.
//
// # Concurrency
//
// All types are safe for concurrent use. Buffers given to a call must not be written to until it returns.
package aead
