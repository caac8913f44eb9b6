package jobs

import "github.com/sealcache/sealcache/middleware/internal/plaintext"

// PlaintextPolicy sets how a queue adapter treats plaintext jobs. It has the
// names and the meaning of middleware.PlaintextPolicy. To turn encryption on
// under live traffic, roll out WritePlaintext, then ReadPlaintext, then
// RejectPlaintext. While a policy accepts plaintext jobs, an attacker who can
// write to the queue can plant some.
type PlaintextPolicy = plaintext.Policy

const (
	// RejectPlaintext refuses plaintext jobs. It is the default.
	RejectPlaintext = plaintext.Reject
	// ReadPlaintext accepts both kinds of jobs and enqueues sealed ones.
	ReadPlaintext = plaintext.Read
	// WritePlaintext accepts both kinds of jobs and enqueues plaintext ones.
	WritePlaintext = plaintext.Write
)
