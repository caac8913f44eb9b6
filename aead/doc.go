// Package aead seals and opens bytes with Tink, Google's cryptography library, and manages the keys. To seal is to encrypt
// so that altered bytes are detected. To open is to decrypt and to check this.
//
// # What to call first
//
// Open a key-encryption key (KEK), and make an [Envelope] with it. Close both at the end:
//
//	kek, err := aead.OpenKEK(ctx, "file:///run/secrets/kek.json")
//	...
//	defer kek.Close()
//	envelope, err := aead.NewEnvelope(ctx, kek)
//	...
//	defer envelope.Close() // runs before kek.Close
//
// An Envelope seals messages with data keys. It makes the data keys itself, and the KEK encrypts ("wraps") each of them.
// The wrapped data key is stored with each message. The Envelope uses one data key for many messages, so it calls the KEK
// only a few times per day.
//
// A [Keyring] seals messages with a Tink keyset. A keyset is a set of keys. One of them, the primary key, seals, and all of
// them open. The keyset is stored encrypted under a KEK. The Keyring can load a changed keyset while it is in use.
//
// An Envelope is right for most applications. Its KEK is a key in a key service (such as a cloud KMS), a key file, a
// passphrase, or a Keyring. Use a Keyring without an Envelope only if the application writes few messages, or if the
// keyset has XAES-256-GCM keys. See "How many messages one key may seal".
//
// The other functions are:
//
//   - [OpenKEK] opens a KEK by URI: a file, a passphrase, or a key in a key service.
//   - [NewKEKSet] combines several KEKs, so that an application can replace its KEK without downtime.
//   - [CreateKeyset] makes a keyset and writes it, encrypted under a KEK.
//   - [OpenPRF] opens a keyset for a pseudorandom function (PRF). With it, an application can replace names by pseudonyms.
//   - [WithTenants] gives each tenant of an application its own KEK.
//   - [WithContext] turns a tink.AEAD into a tink.AEADWithContext.
//
// # How keys are handled
//
// Each key is tested before it seals. A Keyring seals and opens a test message. An Envelope lets the KEK unwrap each data
// key that it made, and compares the result. An Envelope never seals with a data key of another process.
//
// A data key has limits for messages, bytes and age. The Envelope makes a new data key before the old one reaches a limit.
// If the KEK does not answer, the Envelope uses the old data key up to its limit. From then on, sealing fails with
// [ErrKeyServiceUnavailable], until the KEK answers.
//
// An Envelope forgets a data key after the time of [WithDataKeyTTL], unless the KEK unwraps it again. So if you destroy a
// KEK, the values under its data keys become unreadable after this time.
//
// A Keyring replaces its keyset as a whole. If it cannot read the new keyset, it keeps the old one.
//
// Keys are in the memory of the process while they are in use. No error, log line or formatted value contains key
// material.
//
// # How many messages one key may seal
//
// AES-GCM and ChaCha20-Poly1305 draw a random number of 96 bits, the nonce, for each message. If a nonce repeats under one
// key, an attacker learns about both messages, and can forge others. NIST therefore allows at most 2^32 messages per key
// (SP 800-38D, section 8.3). The messages of all processes that share the key count. At 100,000 messages per second, a key
// reaches this limit in twelve hours.
//
// An Envelope stays below the limit, because each process makes its own data keys and replaces them early.
//
// A Keyring counts only its own messages, although other processes may use the same keyset. At 2^28 messages it logs a
// warning. At 2^32 messages it returns [ErrKeyExhausted]. If you have more messages, use an Envelope, or XAES-256-GCM keys
// in the keyset (Tink's template XAES256GCM192BitNonceKeyTemplate). XAES-256-GCM keys have longer nonces and need no
// limit.
//
// # Errors
//
// After [ErrUnauthentic] or [ErrUnknownKey], do not try again: these bytes do not open with these keys. After
// [ErrKeyServiceUnavailable] or [ErrTooManyDataKeys], a later try may succeed. To find context errors and the error of the
// key service, use errors.Is and errors.As.
//
// # Concurrency
//
// All types are safe for concurrent use. Do not change the buffers of a call before the call returns.
//
// # Formats and compatibility
//
// By default, Keyring and Envelope write the formats of Tink. Tink opens them in any language, with the same keys.
// Passphrase KEKs, tenants and [WithWrapContext] have formats of this package, which FORMAT.md specifies. Each
// release from v1 on opens the values of all earlier releases from v1 on.
package aead
