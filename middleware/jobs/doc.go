// Package jobs seals the data of background jobs in their queue: payload, result and
// error text. Package asynqjobs uses it for asynq. For another queue, write a small
// adapter with [Encryptor.Seal] and [Encryptor.Open].
//
//	e, err := jobs.NewEncryptor(keys, jobs.WithNamespace("billing"))
//	...
//	m := jobs.Meta{Type: "invoice:send", Queue: "default", ID: id}
//	sealed, err := e.Seal(ctx, m, payload)   // where the job is enqueued
//	payload, err := e.Open(ctx, m, sealed)   // where it is processed
//
// # Binding
//
// A sealed payload opens only under the Meta that sealed it: the same namespace and
// kind, and the same type, queue and id, as far as they were not empty. An attacker
// who can write to the queue's store cannot give one job the arguments of another,
// run them under another type, or pass a result off as a payload. The attacker can
// enqueue an old job again, unchanged. A handler that must not run twice remembers
// ids, which are bound and therefore reliable.
//
// Bind the names that both sides know when they seal and open. If the queue chooses
// the id after the payload is sealed, choose the id yourself or leave it empty. The
// authenticated header of the sealed value records which names are bound.
//
// [Encryptor.Open] refuses a value that binds less than its Meta. Otherwise a payload
// that was sealed without an id would open under any id. If older values that bind
// less must still open, [WithOptionalBinding] says which names may be missing.
//
// # Adapting a queue
//
//   - Producer: choose the id. Seal the payload with Meta{Type, Queue, ID}. Give the
//     queue the sealed bytes, which are binary (use base64 if it needs text).
//   - Worker: open with the same Meta. Take type, queue and id from the queue itself,
//     not from the message. If the queue is only a list of messages, type and id are
//     claims of the message. A claim is proved once the value has opened under it, and
//     not before. The queue's name is always the worker's own.
//   - Retries: a job keeps the bytes that it has. It is never sealed twice.
//   - Results and error texts: use the same Meta with Kind Result or Failure. Errors go
//     into stores and logs too: seal their text, and return a wrapping error whose text
//     is the sealed one.
//   - Errors of Open: [Permanent] reports whether every further try must fail. If so,
//     park the job. Otherwise retry it later without counting the try.
//   - Uniqueness: two ciphertexts are never equal. Compare [Tokens.Token] of type, queue
//     and payload instead. It is a keyed pseudorandom function, so a reader of the store
//     cannot test guesses.
//   - Hidden type names: enqueue the token of the name, and put the name into the
//     payload. Or look the token up in a table of [Tokens.All] for the known names.
//
// The example of this package adapts its own queue.
//
// # Keys
//
// Any tink.AEADWithContext works; most applications use an aead.Envelope. The
// encryptor holds no key, has no goroutine and needs no closing. It is safe for
// concurrent use.
package jobs
