package middleware

import (
	"log/slog"
	"time"

	"github.com/sealcache/sealcache/middleware/internal/plaintext"
)

// PlaintextPolicy sets how a Store treats plaintext values: see WithPlaintext. To turn encryption on under live
// traffic, roll out WritePlaintext (every instance can then read what any other writes), then ReadPlaintext or
// SealOnRead, then RejectPlaintext.
//
// While a policy accepts plaintext values, an attacker who can write to the
// backing store can plant some. WithPlaintextUntil sets the end.
type PlaintextPolicy = plaintext.Policy

const (
	// RejectPlaintext refuses a plaintext value with ErrNotSealed. It is the
	// default.
	RejectPlaintext = plaintext.Reject
	// ReadPlaintext returns plaintext values as the backing store returns them,
	// or decoded if the store has exactly one codec and that codec can read
	// them. It writes sealed values. A plaintext value has no type: Redis returns
	// an int as text, as it does without this package. A plaintext value of more
	// than 1 MiB that the codec would decode is ErrTooLarge, because a planted one
	// can fill the memory. WithMaxValueBytes sets another bound, also for writing.
	//
	// Decoded, a planted value can still need much more memory than its size. One
	// byte of MessagePack can declare an element of a slice, and so can two bytes
	// of JSON or of a protocol buffer. 1 MiB for a slice of structs of 256 bytes
	// took 512 MiB of MessagePack and 694 MiB of JSON while it was decoded. If the
	// codec's type has slices or maps of large types, set WithMaxValueBytes to the
	// size of the largest value of the application.
	ReadPlaintext = plaintext.Read
	// SealOnRead is ReadPlaintext, and a plaintext value that was read is
	// replaced by its sealed form if it has not changed. Its bytes are sealed as
	// they are, and its expiry stays. It needs a backing store that can swap atomically (redisstore, memorystore),
	// else New fails.
	SealOnRead = plaintext.SealOnRead
	// WritePlaintext reads both kinds and writes plaintext, as the backing store
	// would without this package (values of a codec as the codec encodes them).
	// It is the first step of a rollout, and the last step of a rollback.
	WritePlaintext = plaintext.Write
)

// policy is the plaintext policy of this moment.
func (s *Store) policy() PlaintextPolicy { return s.plaintext.Policy() }

// announcePlaintext logs once, at start, what policy applies.
func (s *Store) announcePlaintext() {
	policy, until := slog.String("policy", s.cfg.plaintext.String()), slog.String("until", s.cfg.until.Format(time.RFC3339))
	switch {
	case s.cfg.plaintext == RejectPlaintext:
	case s.cfg.until.IsZero():
		s.tel.log.Warn("sealcache: plaintext values are accepted without a time limit (set WithPlaintextUntil)", policy)
	case s.policy() == RejectPlaintext:
		s.tel.log.Warn("sealcache: the time of WithPlaintextUntil has passed, so plaintext values are refused", policy, until)
	default:
		s.tel.log.Info("sealcache: plaintext values are accepted until the time of WithPlaintextUntil", policy, until)
	}
}
