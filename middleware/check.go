package middleware

import (
	"context"
	"fmt"
	"iter"
	"strings"
)

// Check proves that the store does its work, for a start-up or readiness
// probe: a random value, sealed, must differ from what it was and open again,
// and the backing store must answer. It writes nothing. It asks the key service
// only as far as sealing any value does.
func (s *Store) Check(ctx context.Context) error {
	if _, err := s.box.Probe(ctx); err != nil {
		return fmt.Errorf("middleware: check: keys: %w", err)
	}
	if err := s.checkBacking(ctx); err != nil {
		return fmt.Errorf("middleware: check: the %s store does not answer: %w", s.backing.GetType(), err)
	}
	return nil
}

func (s *Store) checkBacking(ctx context.Context) error {
	if p, ok := s.backing.(Pinger); ok {
		return s.backingError(p.Ping(ctx))
	}
	_, err := s.backing.Get(ctx, s.prefix+"sealcache-probe")
	if err = s.backingError(err); isMiss(err) {
		return nil
	}
	return err
}

// Keys streams the names of the namespace's entries, without the namespace, or
// of all entries if the store has none. An entry that is there throughout is
// named at least once; one that comes or goes meanwhile may be. The sequence
// ends after the first error, which is ErrUnsupported where the backing store
// cannot enumerate.
func (s *Store) Keys(ctx context.Context) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		if s.lister == nil {
			yield("", s.unsupported("list its entries"))
			return
		}
		for name, err := range s.lister.Keys(ctx, s.prefix) {
			if err != nil {
				yield("", s.backingError(err))
				return
			}
			if !yield(strings.TrimPrefix(name, s.prefix), nil) {
				return
			}
		}
	}
}
