package middleware

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/eko/gocache/lib/v4/store"

	"github.com/sealcache/sealcache/internal/rediserr"
)

// gocache's own stores keep the keys of a tag in an entry of the store, and drop the errors of writing and reading it.
// This file refuses names that such tags cannot hold, and failures that these stores hide.

// checkWrite returns an error for an entry that the backing store cannot write with its tags.
func (s *Store) checkWrite(stored string, plan writePlan) error {
	if s.traits.joinsTags && len(plan.tags) > 0 && strings.Contains(stored, ",") {
		return s.unsupported("keep tags of a key that contains a comma")
	}
	return s.checkNotTagList(stored)
}

// checkNotTagList returns an error for the name of a tag's list. If the list were overwritten or deleted, Invalidate would
// miss the entries of that tag.
func (s *Store) checkNotTagList(stored string) error {
	if start := s.traits.tagLists; start != "" && strings.HasPrefix(stored, start) {
		return fmt.Errorf("%w: the key is reserved for a tag's list of entries (use keys that do not start with %s)", ErrUnsupported, start)
	}
	return nil
}

// checkTags returns an error for a stored tag under whose name the backing store cannot keep a list.
func (s *Store) checkTags(tags []string) error {
	t := s.traits
	for _, tag := range tags {
		name := t.tagLists + tag
		if t.maxNameBytes > 0 && len(name) > t.maxNameBytes || t.graphicNames && strings.ContainsFunc(name, notGraphic) {
			return fmt.Errorf("middleware: the %s store failed: a tag is too long or contains invalid characters", s.backing.GetType())
		}
	}
	return nil
}

// notGraphic reports whether memcached refuses a key that contains r.
func notGraphic(r rune) bool { return r <= ' ' || r == 0x7f }

// invalidateEach invalidates stored tags one by one. Some of gocache's stores stop at the first tag without entries. They
// also report success if the server does not answer, so each tag is first read.
func (s *Store) invalidateEach(ctx context.Context, tags []string) error {
	var errs []error
	for _, tag := range tags {
		err := s.checkTags([]string{tag})
		if err == nil {
			err = s.checkTagList(ctx, s.traits.tagLists+tag)
		}
		if err == nil {
			err = s.backingError(s.backing.Invalidate(ctx, store.WithInvalidateTags([]string{tag})))
		}
		if err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// checkTagList returns an error if the list of a tag cannot be read. An absent one is not an error.
func (s *Store) checkTagList(ctx context.Context, name string) error {
	_, err := s.backing.Get(ctx, name)
	switch {
	case s.traits.setsOfTags && err == nil:
		return errors.New("middleware: the name of a tag's list is taken by an entry that is not a list (delete it in Redis)")
	case s.traits.setsOfTags && (rediserr.Code(err) == "WRONGTYPE" || strings.HasPrefix(fmt.Sprint(err), "WRONGTYPE ")):
		return nil // the set exists
	}
	if err = s.backingError(err); isMiss(err) {
		return nil
	}
	return err
}
