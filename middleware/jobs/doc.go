// Package jobs seals the data of background jobs for any queue: payloads, results and error texts. To seal is to encrypt
// so that altered data is detected. For the queue asynq, use package asynqjobs. For another queue, write an adapter with
// [Encryptor.Seal] and [Encryptor.Open]:
//
//	e, err := jobs.NewEncryptor(envelope, jobs.WithNamespace("billing")) // an aead.Envelope
//	...
//	m := jobs.Meta{Type: "invoice:send", Queue: "default", ID: id}
//	sealed, err := e.Seal(ctx, m, payload)   // where the job is enqueued
//	payload, err := e.Open(ctx, m, sealed)   // where it is processed
//
// # Metadata
//
// A sealed value opens only with the same [Meta], and in the same namespace. A Meta has a kind (payload, result, error
// text or schedule) and the type, queue and id of the job. So an attacker with write access to the queue cannot give a job
// the payload of another job. The attacker cannot change the type of a job, or use a result as a payload.
//
// The attacker can still enqueue an old job again, unchanged. If a handler must not run twice, it can store the ids of
// finished jobs. This works only if the payload was sealed with the id.
//
// Type, queue and id may be empty. Set a field to the same value when you seal and when you open. If one of the two places
// does not know a value, leave that field empty. If your queue chooses the id later, choose the id yourself or leave it
// empty.
//
// A sealed value records which of the three were set. [Encryptor.Open] returns an error if the Meta sets one that was
// empty in [Encryptor.Seal]. Otherwise a payload without an id would open under every id. For payloads that
// were sealed before you began to set a field, use [WithOptionalBinding].
//
// # Writing an adapter
//
//   - Enqueue: choose the id. Seal the payload with Meta{Type, Queue, ID}. Give the sealed bytes to the queue. They are
//     binary, so use base64 if the queue needs text.
//   - Process: open the payload with the same Meta. Take the queue's name from the configuration of the worker. Take type
//     and id from the queue. If they are in the message itself, do not trust them before Open has succeeded.
//   - Retry: enqueue the same sealed bytes again. Never seal a payload twice.
//   - Results: seal them with the same Meta and Kind Result.
//   - Errors of handlers: queues and logs keep their text too. So seal the text with Kind Failure, and return an error
//     that has the sealed text and wraps the original error.
//   - Errors of Open: if [Permanent] returns true, no later try can succeed, so move the job to the failed jobs. After any
//     other error, retry the job later, and do not count the try.
//   - Unique jobs: the same payload gives different sealed bytes each time. So compare the token ([Tokens.Token]) of type,
//     queue and payload instead. A token is the output of a keyed function (PRF). Without the key, an attacker cannot test
//     guesses.
//   - Hidden type names: use the token of the type name as the type in the queue. The worker computes [Tokens.All] for
//     each type name that it knows, and looks up the token there.
//
// The example of this package contains a small queue and its adapter.
//
// # Keys
//
// An [Encryptor] seals with any tink.AEADWithContext. Most applications use an aead.Envelope. The Encryptor does not close
// it. An Encryptor starts no goroutine, and it has no Close method. It is safe for concurrent use.
package jobs
