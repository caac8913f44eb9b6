package middleware

import (
	"context"

	"github.com/eko/gocache/lib/v4/store"
)

// SetIfExists is Set for a key that has an entry, and reports whether it wrote. An entry that another client deletes at the
// same time stays deleted. The expiry and the tags are those of options, as with Set.
//
// Absent, unreadable and unsupported are as with Update, and so are errors.
func (s *Store) SetIfExists(ctx context.Context, key any, value any, options ...store.Option) (bool, error) {
	ctx, op := s.tel.begin(ctx, "SetIfExists")
	written, err := s.setIfExists(ctx, key, value, options)
	op.end(err)
	s.tel.refusedWrite(ctx, "SetIfExists", err)
	return written, err
}

func (s *Store) setIfExists(ctx context.Context, key, value any, options []store.Option) (written bool, err error) {
	plan, err := s.planWrite(options)
	if err != nil {
		return false, err
	}
	err = s.swapLoop(ctx, key, func(a address) (done bool, err error) {
		e, err := s.entry(ctx, a)
		if err == nil && e.found {
			err = s.checkWrite(e.at.stored, plan)
		}
		if err != nil || !e.found {
			return true, err
		}
		_, written, err = s.replaceEntry(ctx, e, value, plan)
		return written, err
	})
	return written, err
}
