package middleware

import (
	"fmt"
	"time"
)

// PlaintextPolicy says what a Store does with values in clear: see
// WithPlaintext. To turn encryption on under live traffic, roll out
// WritePlaintext (every instance can read what any other writes), then
// ReadPlaintext or SealOnRead, then RejectPlaintext.
//
// While a policy tolerates clear values, whoever can write to the backing store
// can plant some: end the tolerance with WithPlaintextUntil.
type PlaintextPolicy int

const (
	// RejectPlaintext: a clear value is ErrNotSealed. The default.
	RejectPlaintext PlaintextPolicy = iota
	// ReadPlaintext: clear values are returned as the backing store returns
	// them, or decoded where the store has exactly one codec and that can read
	// them; everything is written sealed. In clear a value has no type: what was an int comes back
	// from Redis as text, as it does without this package.
	ReadPlaintext
	// SealOnRead is ReadPlaintext, and a clear value that was read is replaced
	// by its sealed form, if it is still the same and without touching its
	// expiry. It needs a backing store that can swap atomically (redisstore,
	// memorystore), else New fails.
	SealOnRead
	// WritePlaintext: reads both and writes in clear, as the backing store
	// would without this package (values of a codec as the codec encodes
	// them). It is the first step of a rolling deployment, and the last of a
	// way back.
	WritePlaintext
)

func (p PlaintextPolicy) String() string {
	switch p {
	case RejectPlaintext:
		return "reject"
	case ReadPlaintext:
		return "read"
	case SealOnRead:
		return "seal-on-read"
	case WritePlaintext:
		return "write"
	default:
		return fmt.Sprintf("policy %d", int(p))
	}
}

// policy is the plaintext policy of this moment.
func (s *Store) policy() PlaintextPolicy {
	if s.cfg.plaintext == RejectPlaintext {
		return RejectPlaintext
	}
	if !s.cfg.until.IsZero() && !s.cfg.now().Before(s.cfg.until) {
		return RejectPlaintext
	}
	return s.cfg.plaintext
}

// announcePlaintext says once, at start, what tolerance is in force.
func (s *Store) announcePlaintext() {
	switch {
	case s.cfg.plaintext == RejectPlaintext:
	case s.cfg.until.IsZero():
		s.tel.log.Warn("sealcache: clear values are tolerated without an end; set WithPlaintextUntil",
			"policy", s.cfg.plaintext.String())
	case s.policy() == RejectPlaintext:
		s.tel.log.Warn("sealcache: the tolerance of clear values has ended; they are refused",
			"policy", s.cfg.plaintext.String(), "until", s.cfg.until.Format(time.RFC3339))
	default:
		s.tel.log.Info("sealcache: clear values are tolerated for a time",
			"policy", s.cfg.plaintext.String(), "until", s.cfg.until.Format(time.RFC3339))
	}
}
