package middleware

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"iter"
	"strings"
)

// Check proves that the store does its work, for a start-up or readiness
// probe: a random value, sealed, must differ from what it was and open again,
// and the backing store must answer. It writes nothing. It asks the key service
// only as far as sealing any value does.
func (s *Store) Check(ctx context.Context) error {
	if err := s.checkSealing(ctx); err != nil {
		return fmt.Errorf("middleware: check: keys: %w", err)
	}
	if err := s.checkBacking(ctx); err != nil {
		return fmt.Errorf("middleware: check: the %s store does not answer: %w", s.backing.GetType(), err)
	}
	return nil
}

const probeBytes = 32

func (s *Store) checkSealing(ctx context.Context) error {
	probe := make([]byte, probeBytes)
	rand.Read(probe) // never fails
	sc := newScratch()
	defer sc.free()
	name := "sealcache probe"
	sealed, err := s.seal(ctx, sc, name, probe)
	if err != nil {
		return err
	}
	if bytes.Contains(sealed, probe) {
		return errors.New("the AEAD does not encrypt: a sealed value holds its plaintext")
	}
	opened, err := s.open(ctx, name, sealed, false)
	if err != nil {
		return fmt.Errorf("what was sealed does not open: %w", err)
	}
	if b, ok := opened.([]byte); !ok || !bytes.Equal(b, probe) {
		return errors.New("what was sealed opens as something else")
	}
	if _, err := s.open(ctx, name+" elsewhere", sealed, false); err == nil {
		return errors.New("the AEAD does not authenticate associated data: a value opens under another key name")
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
