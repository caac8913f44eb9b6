// Package jobs seals what a background job leaves in its queue: payload, result
// and error text. It knows no queue; package asynqjobs uses it for asynq, and
// any other queue takes an hour.
//
//	e, err := jobs.NewEncryptor(keys, jobs.WithNamespace("billing"))
//	...
//	m := jobs.Meta{Type: "invoice:send", Queue: "default", ID: id}
//	sealed, err := e.Seal(ctx, m, payload)   // where the job is enqueued
//	payload, err := e.Open(ctx, m, sealed)   // where it is processed
//
// # Binding
//
// A sealed payload opens only as what it was sealed as: the same namespace, kind,
// and those of type, queue and id that were not empty. So an attacker who can
// write to the queue's store cannot give one job the arguments of another, run
// them under another type, or pass a result off as a payload. What he can do is
// enqueue an old job again, unchanged; a handler that must not run twice checks
// for itself (ids are bound, so they can be relied upon).
//
// Bind what both sides know for certain at the time. If the queue chooses the id
// after the payload is sealed, either choose it yourself or leave it empty. Which
// names are bound stands in the sealed value's header, where it is authenticated.
//
// [Encryptor.Open] refuses a value that binds less than the Meta it is given: a
// payload that was sealed without an id, for a place that has none, would
// otherwise open under any id. Where older values that bind less must still open,
// [WithOptionalBinding] says which names may be missing.
//
// # Adapting a queue
//
//   - Producer: choose the id; seal the payload with Meta{Type, Queue, ID}; hand
//     the queue the sealed bytes (they are binary; base64 if it needs text).
//   - Worker: open with the same Meta, as far as possible taken from the queue, which
//     knows which job it hands over, and not from the message. In a queue that is no
//     more than a list of messages, type and id are what the message claims: it opens
//     only if they are those that it was sealed with, so that they may be believed
//     once it has, and not before. It is then unknown whether the message was
//     put there again: a worker that must not run a job twice remembers ids. The
//     queue's name is always the worker's own. A job is retried with the bytes that
//     it has; it is never sealed twice.
//   - Results and error texts: the same with Kind Result and Failure. Errors go
//     into stores and logs too: seal their text, and return a wrapping error whose
//     text is the sealed one.
//   - What to do with an error of Open: [Permanent] reports whether trying again can
//     help. If not, park the job; if so, retry it later without counting the try.
//   - Uniqueness: a random ciphertext never repeats. Compare [Tokens.Token] of
//     type, queue and payload instead: a keyed pseudorandom function, so that a
//     guess cannot be tried out by those who see it.
//   - Hidden type names: enqueue the token of the name, and put the name into the
//     payload, or look it up in a table of [Tokens.All] for the names that you know.
//
// The example of this package does that for a queue of its own.
//
// # Keys
//
// Any tink.AEADWithContext will do; an aead.Envelope is what most applications
// want. The encryptor holds no key, has no goroutine and needs no closing. It is
// safe for concurrent use.
package jobs
