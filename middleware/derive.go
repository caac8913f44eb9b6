package middleware

import (
	"context"
	"fmt"

	"github.com/tink-crypto/tink-go/v2/tink"
)

// origin holds the arguments of a Store, so that With can make another.
type origin struct {
	aead tink.AEADWithContext
	opts []Option
}

// With returns another Store over the same backing store and AEAD, with the options
// of s and then opts. Both may be used at the same time. Close of either closes the
// backing store. Only s reports the counts of the backing store. OtherKeyReads of either
// returns the counts of both.
func (s *Store) With(opts ...Option) (*Store, error) {
	all := append(s.origin.opts[:len(s.origin.opts):len(s.origin.opts)], opts...)
	other, err := newStore(s.backing, s.origin.aead, all)
	if err != nil {
		return nil, fmt.Errorf("middleware: Store.With: %w", err)
	}
	other.sealer.countIn(s.sealer.reads)
	if other.cfg.plaintext == s.cfg.plaintext && other.cfg.until.Equal(s.cfg.until) {
		other.plaintext = s.plaintext // an end that has come is final
	}
	return other, nil
}

// HidesNames reports whether the names of entries and tags in the backing store are
// pseudonyms, because of WithHiddenKeys or WithOneWayKeys.
func (s *Store) HidesNames() bool { return s.names != nil }

// CanTouch reports whether the backing store has the capabilities that Touch, Update and
// Increment need. Without them they return ErrUnsupported.
func (s *Store) CanTouch() bool {
	return s.can.atomic != nil && s.can.swapper != nil && s.can.setNX != nil
}

// TagsKept reports whether the settings of the server keep each tag as long as its
// entries, so that Invalidate finds all of them. If the backing store is not a
// TagKeeper, the error is ErrUnsupported.
func (s *Store) TagsKept(ctx context.Context) (bool, error) {
	if s.can.tags == nil {
		return false, s.unsupported("report whether its server may evict tags")
	}
	keeps, err := s.can.tags.KeepsTags(ctx)
	return keeps, s.backingError(err)
}
