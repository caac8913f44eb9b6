// Package aead seals and opens bytes with Tink, Google's cryptography library, and manages the keys. To seal is to encrypt
// so that altered bytes are detected. To open is to decrypt, and to check that no byte was altered.
//
// First call [OpenKEK], which returns a key-encryption key (KEK). [NewEnvelope] makes an [Envelope] with the KEK. Close
// both at the end:
//
//	kek, err := aead.OpenKEK(ctx, "file:///run/secrets/kek.json")
//	...
//	defer kek.Close()
//	envelope, err := aead.NewEnvelope(ctx, kek)
//	...
//	defer envelope.Close() // runs before kek.Close
//
// An Envelope seals messages with data keys. It makes the data keys itself, and the KEK encrypts ("wraps") each of them.
// The wrapped data key is stored with each message. The Envelope uses one data key for many messages, so it seldom calls
// the KEK. To seal, it calls the KEK a few times per day. To open, it calls the KEK about once per hour for each data key
// in use. The KEK is a file, a passphrase, or a key in a key service (such as a cloud KMS): see [OpenKEK].
//
// A [Keyring] is a set of keys (a Tink keyset). One key of the set, the primary key, seals new messages. All enabled keys
// of the set open messages. A keyset is stored encrypted under a KEK: see [CreateKeyset] and [OpenKeyring]. You can pass a
// Keyring to NewEnvelope instead of a KEK. You can also seal with a Keyring directly, if the application writes few
// messages: the comment of [Keyring] gives the limit.
//
// Other functions: [NewKEKSet] replaces a KEK without downtime. [OpenPRF] reads the keys with which an application
// replaces names by pseudonyms. [WithTenants] gives each tenant of an application its own KEK.
//
// # How keys are handled
//
// Each key is tested before it seals. The Envelope makes a new data key before the old one reaches a limit for messages,
// bytes or age. If the KEK does not answer, the Envelope uses the old data key up to its limit. From then on, sealing fails
// with [ErrKeyServiceUnavailable], until the KEK answers.
//
// An Envelope opens values with a data key for at most the time of [WithDataKeyTTL], and then asks the KEK again. If the
// data key is in use, the Envelope asks before this time ends. So in an outage of the KEK, values stay readable for at
// most this time. If you destroy a KEK, the values under its data keys become unreadable after this time at the latest.
//
// Keys are in the memory of the process while they are in use. No error or log line contains key material, and no printed
// value of this package does.
//
// # Errors and concurrency
//
// After [ErrUnauthentic], do not try again: these bytes do not open with these keys. After [ErrUnknownKey], try again only
// after a change of the keys, such as a reload of the keyset. After [ErrKeyServiceUnavailable] or [ErrTooManyDataKeys], a
// later try may succeed. To find context errors and the error of the key service, use errors.Is and errors.As.
//
// All types are safe for concurrent use. Do not change the buffers of a call before the call returns.
//
// # Formats and compatibility
//
// By default, Keyring and Envelope write the formats of Tink. The Tink libraries of all languages open these formats with
// the same keys. Passphrase KEKs, tenants, and data keys bound to a context ([WithWrapContext]) have formats of this
// package. FORMAT.md specifies these formats. Each release from v1 on opens the values of all earlier releases from v1 on.
package aead
