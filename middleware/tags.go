package middleware

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/eko/gocache/lib/v4/store"

	"github.com/sealcache/sealcache/internal/errtext"
	"github.com/sealcache/sealcache/internal/rediserr"
)

// gocache's own stores keep the keys of a tag in an entry of the store, and drop the errors of writing and reading it.
// This file refuses names that such tags cannot hold, and failures that these stores hide.

// checkWrite returns an error for an entry that the backing store cannot write with its tags.
func (s *Store) checkWrite(stored string, plan writePlan) error {
	if s.traits.joinsTags && len(plan.tags) > 0 && strings.Contains(stored, ",") {
		return s.unsupported("keep tags of a key that contains a comma")
	}
	return s.checkDefaultTags()
}

// checkNotTagList returns an error for the name of a tag's list. If the list were overwritten or deleted, Invalidate would
// miss the entries of that tag.
func (s *Store) checkNotTagList(stored string) error {
	if start := s.traits.tagLists; start != "" && strings.HasPrefix(stored, start) {
		return fmt.Errorf("%w: the key is reserved for a tag's list of entries (use keys that do not start with %s)", ErrUnsupported, start)
	}
	return nil
}

// The checks above do not see tags that are options of the backing store itself. Some of gocache's stores also add these to
// the lists of tags, in an endless recursion that ends the process. So they are found at the first write, and refused.

// findDefaultTags is the first option of a call over a store that joins tags. It removes the tags of the backing store.
func (s *Store) findDefaultTags(o *store.Options) {
	if len(o.Tags) > 0 {
		o.Tags = nil
		s.defaultTags.Store(true)
	}
}

// checkDefaultTags returns an error if a write has found tags among the options of the backing store.
func (s *Store) checkDefaultTags() error {
	if s.defaultTags.Load() {
		return fmt.Errorf("%w: the backing store has the option WithTags (set tags with middleware.WithDefaults)", ErrUnsupported)
	}
	return nil
}

// writeError is backingError for a write with options.
func (s *Store) writeError(err error) error {
	if err == nil {
		return s.checkDefaultTags()
	}
	return s.backingError(err)
}

// checkTags returns an error for a stored tag under whose name the backing store cannot keep a list.
func (s *Store) checkTags(tags []string) error {
	t := s.traits
	for _, tag := range tags {
		name := t.tagLists + tag
		if t.maxNameBytes > 0 && len(name) > t.maxNameBytes || t.graphicNames && strings.ContainsFunc(name, notGraphic) {
			return fmt.Errorf("%w: a tag is too long or has a space or control byte (use WithHiddenKeys)", ErrUnsupported)
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
		if err != nil && !errors.Is(err, errNoList) {
			errs = append(errs, err)
		}
	}
	return joinTagErrors(errs, len(tags))
}

// errNoList means that no entry has a tag. Invalidate of freecache fails for such a tag.
var errNoList = errors.New("middleware: no entry has this tag, so there is nothing to invalidate")

// checkTagList returns an error if the list of a tag is absent or cannot be read.
func (s *Store) checkTagList(ctx context.Context, name string) error {
	_, err := s.backing.Get(ctx, name)
	switch {
	case s.traits.setsOfTags && err == nil:
		return errors.New("middleware: the Redis key of a tag's list of entries holds a string, not a set (delete that key)")
	case s.traits.setsOfTags && (rediserr.Code(err) == "WRONGTYPE" || strings.HasPrefix(errtext.Text(err), "WRONGTYPE ")):
		return nil // the set exists
	}
	if err = s.backingError(err); isMiss(err) {
		return errNoList
	}
	return err
}

// tagErrors are the errors of several tags. One outage fails for all of them, so the text has each reason once.
type tagErrors struct {
	errs []error
	tags int // of the call, under each PRF key
}

// joinTagErrors returns the errors of a call with a number of tags as one error, or nil.
func joinTagErrors(errs []error, tags int) error {
	switch {
	case len(errs) == 0:
		return nil
	case tags == 1:
		return errs[0]
	default:
		return &tagErrors{errs, tags}
	}
}

func (e *tagErrors) Error() string {
	var reasons []string
	counts := map[string]int{}
	for _, err := range e.errs {
		reason := err.Error()
		if counts[reason]++; counts[reason] == 1 {
			reasons = append(reasons, reason)
		}
	}
	slices.SortStableFunc(reasons, func(a, b string) int { return counts[b] - counts[a] })
	for i, reason := range reasons {
		reasons[i] = fmt.Sprintf("middleware: Invalidate: the lists of %d of %d tags could not be invalidated: %s", counts[reason], e.tags, strings.TrimPrefix(reason, "middleware: "))
	}
	return strings.Join(reasons, "\n")
}

func (e *tagErrors) Unwrap() []error { return e.errs }
