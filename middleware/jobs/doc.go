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
// A sealed value opens only in the namespace and with the Meta with which it was
// sealed. Meta has a kind (payload, result, error text or periodic schedule) and three
// names: the job's type, queue and id. The kind is always bound, and a name is bound if it
// was not empty. An attacker who can write to the queue's store cannot give a job the
// arguments of a different job, run them under a different type, or pass a result off
// as a payload. The attacker can enqueue an old job again, unchanged. A handler that
// must not run twice can remember the ids of finished jobs. An id is reliable only if
// it was set in the Meta when the payload was sealed.
//
// Set the names that both sides know when they seal and open. If the queue chooses
// the id after the payload is sealed, choose the id yourself or leave it empty. The
// authenticated header of the sealed value records which names are bound.
//
// [Encryptor.Open] returns an error if a name is set in its Meta but was empty when
// the value was sealed. Otherwise a payload that was sealed without an id would open
// under any id. [WithOptionalBinding] lists the names that older values may lack.
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
//     move the job to the failed jobs. Otherwise retry it later without counting the try.
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
