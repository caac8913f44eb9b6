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
// The example of this package contains a small queue and its adapter. docs/jobs.md lists what an adapter does.
//
// # Metadata
//
// A sealed value opens only with the same [Meta], and in the same namespace. A Meta has a kind (payload, result, error
// text or schedule) and the type, queue and id of the job. If the Meta has the id, an attacker with write access to the
// queue cannot give a job the payload of another job. If it has the type, the attacker cannot change the type of a job. A
// result never opens as a payload.
//
// The attacker can still enqueue an old job again, unchanged. If a handler must not run twice, it can store the ids of
// finished jobs. This works only if the payload was sealed with the id.
//
// Type, queue and id may be empty. Set a field to the same value when you seal and when you open. If one of the two places
// does not know a value, leave that field empty in both places. Without an id, the payloads of two jobs with the same type
// and queue can be exchanged. If your queue chooses the id later, choose the id yourself or leave it empty.
//
// A payload that was sealed without an id does not open if you give an id. The same holds for type and queue. To open
// payloads that were sealed before you began to set a field, use [WithOptionalBinding].
//
// # Errors of Open
//
// If [Permanent] returns true, no later try can succeed, so move the job to the failed jobs. If it returns
// false and the error is [ErrUnknownKey], retry the job later, and count the try. The key may arrive with a reload of the
// keyset, but an attacker can make up the id of a key that does not exist. If it returns false for another error, such as
// that of a key service that does not answer, retry the job later, and do not count the try.
//
// # Keys
//
// An [Encryptor] seals with any tink.AEADWithContext. Most applications use an aead.Envelope. Close the Envelope yourself:
// an Encryptor has no Close method, and starts no goroutine. It is safe for concurrent use.
package jobs
