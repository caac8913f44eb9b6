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
// # What a value is bound to
//
// A value opens only in the namespace in which it was sealed, and only with the same
// [Meta]. A Meta holds a kind (payload, result, error text or periodic schedule) and three
// names: type, queue and id of the job. Seal always binds the value to the kind. It binds
// the value to each name that is not empty.
//
// So an attacker with write access to the queue's store cannot give a job the payload of
// another job. The attacker cannot change the type of a job, or use a result as a
// payload.
//
// The attacker can still enqueue an old job again, unchanged. A handler that must not run
// twice can store the ids of finished jobs. An id is reliable only if it was set in the
// Meta when the payload was sealed.
//
// # Which names to set
//
// Set each name that is known both before the payload is sealed and before it is opened.
// If the queue chooses the id after the payload is sealed, choose the id yourself or leave
// it empty.
//
// The authenticated header of a sealed value records which names were set.
// [Encryptor.Open] returns an error if the Meta has a name that was empty in
// [Encryptor.Seal]. Without this rule, a payload without an id would open under every id.
// With [WithOptionalBinding], Open accepts older values that were sealed without certain
// names.
//
// # Adapting a queue
//
//   - Producer: choose the id. Seal the payload with Meta{Type, Queue, ID}. Give the
//     queue the sealed bytes, which are binary (use base64 if it needs text).
//   - Worker: open with the same Meta. For the queue name, use the name that the worker
//     is configured with. Take type and id from the queue itself, not from the message. If
//     the queue is only a list of messages, type and id can only come from the message. Do
//     not trust them before Open has succeeded with them.
//   - Retries: enqueue the same sealed bytes again. Never seal a payload twice.
//   - Results and error texts: seal them with the same Meta and Kind Result or Failure.
//     Queues and logs keep the text of an error too. So return an error that has the
//     sealed text and wraps the original error.
//   - Errors of Open: if [Permanent] returns true, no later try can succeed. Move the job
//     to the failed jobs. After any other error, retry the job later and do not count the
//     try.
//   - Uniqueness: two ciphertexts are never equal. Compare the token ([Tokens.Token]) of
//     type, queue and payload instead. A token is the output of a keyed pseudorandom
//     function (PRF). Without the key, a reader of the store cannot test guesses.
//   - Hidden type names: use the token of the type name as the type in the queue, and put
//     the name into the payload. Or the worker computes [Tokens.All] for each known name,
//     and looks up the token there.
//
// The example of this package contains a small queue and its adapter.
//
// # Keys
//
// An [Encryptor] seals with any tink.AEADWithContext. Most applications use an
// aead.Envelope. The Encryptor does not close the AEAD. It starts no goroutine, and it has
// no Close method. It is safe for concurrent use.
package jobs
