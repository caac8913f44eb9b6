package sessions

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/eko/gocache/lib/v4/store"

	"github.com/sealcache/sealcache/internal/errtext"
	"github.com/sealcache/sealcache/internal/names"
	"github.com/sealcache/sealcache/internal/options"
	"github.com/sealcache/sealcache/middleware"
)

// Store keeps sessions. It implements CtxStore and IterableCtxStore of scs. It is
// safe for concurrent use. Close the middleware.Store below it when it is not used
// any more.
type Store struct {
	sealed *middleware.Store
	config
}

const (
	// maxTokenBytes bounds a token. A token of scs has 43 bytes.
	maxTokenBytes = 256
	// maxUserBytes bounds the name of a user.
	maxUserBytes = 1024
	// askTimeout bounds the call with which New asks the server about tags.
	askTimeout = 10 * time.Second
	// touchFraction is the part of the idle timeout after which Find moves the idle end.
	touchFraction = 16
	// allBatch is how many sessions AllCtx reads at a time.
	allBatch = 200
)

// New returns a Store over sealed, which must hide names: middleware.WithOneWayKeys, or WithHiddenKeys if AllCtx is
// needed. New turns middleware.WithAuthenticatedExpiry on. Give sessions a separate Store with a separate namespace.
//
// With WithUser, New asks the server whether it keeps tags, for at most 10 seconds.
func New(sealed *middleware.Store, opts ...Option) (*Store, error) {
	s, err := newStore(sealed, opts)
	if err != nil {
		return nil, fmt.Errorf("sessions: New: %w", err)
	}
	return s, nil
}

func newStore(sealed *middleware.Store, opts []Option) (*Store, error) {
	switch {
	case sealed == nil:
		return nil, errors.New("the middleware.Store is nil")
	case !sealed.HidesNames():
		return nil, errors.New("the key names in Redis would show session tokens (make the store with middleware.WithOneWayKeys)")
	}
	s := &Store{}
	err := options.Apply("", opts, func(o Option) error { return o(&s.config) })
	if err != nil {
		return nil, err
	}
	if s.sealed, err = sealed.With(middleware.WithAuthenticatedExpiry()); err != nil {
		return nil, err
	}
	if s.idle != 0 && !s.sealed.CanTouch() {
		return nil, fmt.Errorf("WithIdleTimeout: %w: the store cannot change the expiry of a session (use redisstore)", middleware.ErrUnsupported)
	}
	return s, s.checkTags()
}

// checkTags returns an error if EndAll may miss sessions.
func (s *Store) checkTags() error {
	if s.user == nil || s.lossy {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), askTimeout)
	defer cancel()
	kept, err := s.sealed.TagsKept(ctx)
	switch {
	case err != nil:
		return fmt.Errorf("WithUser: cannot learn whether Redis may evict session lists: %w (WithLossyTags skips the check)", err)
	case !kept:
		return errors.New("WithUser: Redis may evict the lists of users' sessions (set maxmemory-policy to noeviction)")
	default:
		return nil
	}
}

// FindCtx returns the session under a token in its encoded form. It reports false for a token that is unknown, malformed
// or too long, and for a session past one of its ends. It also reports false for a value of another type, for one that was
// altered, moved or planted, and for one whose key is disabled or destroyed.
//
// The error comes from the backing store or the key service. Or it names a key that this process does not have, or a
// format that this release does not know. It is an error even with middleware.WithMissOnOpenFailure, because the session
// may be sound. Do not log its user out.
//
// With WithIdleTimeout, FindCtx moves the idle end. If only that fails, FindCtx still returns the
// session.
func (s *Store) FindCtx(ctx context.Context, token string) (encoded []byte, found bool, err error) {
	if !plausible(token) {
		return nil, false, nil
	}
	value, end, err := s.sealed.GetBytesWithEnd(ctx, token)
	r, found, err := sessionIn(value, err)
	if !found || s.idle == 0 {
		return r.data, found, failed("find", err)
	}
	now := time.Now()
	wanted, left := min(s.idle, r.absolute.Sub(now)), max(end.Sub(now), 0) // a value that was sealed without an end has 0
	if ended(wanted) {
		return nil, false, nil
	}
	// The end is too late if a process without this idle timeout, or with another clock, has set it.
	if (wanted - left).Abs() > s.idle/touchFraction {
		err := s.sealed.Touch(ctx, token, wanted)
		if errors.Is(err, store.NotFound{}) {
			return nil, false, nil // it ended in between
		}
	}
	return r.data, true, nil
}

// bytesOf returns the bytes of a value as GetBytes does, and nil for another type. Such a value is not a session.
func bytesOf(value any) []byte {
	switch v := value.(type) {
	case []byte:
		return v
	case string:
		return []byte(v)
	default:
		return nil
	}
}

// sessionIn returns the session in what GetBytes returned.
func sessionIn(b []byte, err error) (r record, found bool, _ error) {
	switch {
	case err == nil:
	case middleware.Refused(err), errors.Is(err, store.NotFound{}) && !perhapsSound(err), errors.Is(err, middleware.ErrUnsupportedType):
		return record{}, false, nil
	default:
		return record{}, false, err
	}
	switch r, found = decode(b); {
	case !found && perhapsNewer(b):
		return record{}, false, fmt.Errorf("%w: the stored session has the format version %d (update sealcache)", middleware.ErrUnsupportedFormat, b[0])
	case !found || !time.Now().Before(r.absolute):
		return record{}, false, nil
	default:
		return r, true, nil
	}
}

// perhapsSound reports whether a value that did not open may be a session of another process. Then it is under a key that
// this process does not have, the key was not asked, or a newer release wrote it. With WithMissOnOpenFailure such an error
// is a store.NotFound, too.
func perhapsSound(err error) bool {
	for _, target := range [...]error{
		middleware.ErrUnknownKey, middleware.ErrTooManyDataKeys, middleware.ErrKeyServiceUnavailable, middleware.ErrUnsupportedFormat,
	} {
		if errors.Is(err, target) {
			return true
		}
	}
	return false
}

// CommitCtx stores a session under a token until expiry, the absolute end. It
// overwrites a session that exists. If expiry has passed, it deletes the session.
func (s *Store) CommitCtx(ctx context.Context, token string, encoded []byte, expiry time.Time) error {
	left := time.Until(expiry)
	if plausible(token) && ended(left) {
		return s.DeleteCtx(ctx, token)
	}
	ttl, tags, err := s.lifeOf(ctx, token, encoded, left)
	if err != nil {
		return failed("commit", err)
	}
	m := recordMemory()
	m.bytes = record{expiry, encoded}.appendTo(m.bytes)
	err = s.sealed.SetBytes(ctx, token, m.bytes, ttl, tags...)
	if err == nil { // else a call that was given up may still read it
		m.free()
	}
	return failed("commit", err)
}

// Replace is CommitCtx for a session that exists, and reports whether there is one. A session that was deleted or has ended
// in the meantime does not come back. The backing store must be one for middleware's SetIfExists, or the error is
// middleware.ErrUnsupported.
func (s *Store) Replace(ctx context.Context, token string, encoded []byte, expiry time.Time) (bool, error) {
	left := time.Until(expiry)
	if plausible(token) && ended(left) {
		return false, s.DeleteCtx(ctx, token)
	}
	ttl, tags, err := s.lifeOf(ctx, token, encoded, left)
	if err != nil {
		return false, failed("replace", err)
	}
	m := recordMemory()
	m.bytes = record{expiry, encoded}.appendTo(m.bytes)
	replaced, err := s.sealed.SetIfExists(ctx, token, m.bytes, store.WithExpiration(ttl), store.WithTags(tags))
	if err == nil {
		m.free()
	}
	if middleware.Refused(err) {
		return false, nil
	}
	return replaced, failed("replace", err)
}

// ended reports whether the absolute end of a session has come, or is too near for a TTL.
func ended(left time.Duration) bool { return left < time.Millisecond }

// lifeOf returns the TTL and the tags of a session that is written. left is the time to its absolute end.
func (s *Store) lifeOf(ctx context.Context, token string, encoded []byte, left time.Duration) (ttl time.Duration, tags []string, err error) {
	if !plausible(token) {
		return 0, nil, fmt.Errorf("the session token is empty, longer than %d bytes, or the reserved name sealcache.key-check", maxTokenBytes)
	}
	ttl = left
	if s.idle != 0 {
		ttl = min(left, s.idle)
	}
	if s.user == nil {
		return ttl, nil, nil
	}
	user, err := s.user(ctx, encoded)
	switch {
	case err != nil:
		return 0, nil, fmt.Errorf("the function given to WithUser failed: %w", errtext.Guard(err))
	case len(user) > maxUserBytes:
		return 0, nil, fmt.Errorf("the function given to WithUser returned a user name of more than %d bytes", maxUserBytes)
	case user != "":
		tags = []string{user}
	}
	return ttl, tags, nil
}

// DeleteCtx removes the session under a token. An unknown token is not an error.
func (s *Store) DeleteCtx(ctx context.Context, token string) error {
	if !plausible(token) {
		return nil
	}
	return failed("delete", s.sealed.Delete(ctx, token))
}

// AllCtx returns all sessions in their encoded form by token, in memory at one time.
// Values that FindCtx would not find are left out. The middleware.Store needs
// WithHiddenKeys: with WithOneWayKeys the tokens are not stored, and AllCtx is
// middleware.ErrUnsupported.
func (s *Store) AllCtx(ctx context.Context) (map[string][]byte, error) {
	all := map[string][]byte{}
	var tokens []string
	read := func() error {
		values, err := s.sealed.GetMany(ctx, tokens)
		var batch *middleware.BatchError
		switch {
		case errors.As(err, &batch):
			for _, err := range batch.Errors {
				if _, _, err := sessionIn(nil, err); err != nil {
					return err
				}
			}
		case err != nil:
			return err
		}
		for token, value := range values {
			r, found, err := sessionIn(bytesOf(value), nil)
			if err != nil {
				return err
			}
			if found {
				all[token] = r.data
			}
		}
		tokens = tokens[:0]
		return nil
	}
	for token, err := range s.sealed.Keys(ctx) {
		if err != nil {
			return nil, failed("all", err)
		}
		if tokens = append(tokens, token); len(tokens) == allBatch {
			if err := read(); err != nil {
				return nil, failed("all", err)
			}
		}
	}
	return all, failed("all", read())
}

// Touch moves the idle end of a session to the idle timeout from now, but not past
// its absolute end. It reports whether there is such a session. Without
// WithIdleTimeout it writes nothing. FindCtx calls it as needed.
func (s *Store) Touch(ctx context.Context, token string) (bool, error) {
	if !plausible(token) {
		return false, nil
	}
	value, err := s.sealed.GetBytes(ctx, token)
	r, found, err := sessionIn(value, err)
	if err == nil && found && s.idle != 0 {
		left := time.Until(r.absolute)
		if ended(left) {
			return false, nil
		}
		if err = s.sealed.Touch(ctx, token, min(s.idle, left)); errors.Is(err, store.NotFound{}) {
			found, err = false, nil
		}
	}
	return found && err == nil, failed("touch", err)
}

// EndAll ends all sessions of a user, as WithUser named it: "log out everywhere".
// Without WithUser it is an error.
func (s *Store) EndAll(ctx context.Context, user string) error {
	switch {
	case s.user == nil:
		return errors.New("sessions: end all: the store does not know the users of sessions (give New the option WithUser)")
	case user == "" || len(user) > maxUserBytes:
		return fmt.Errorf("sessions: end all: the name of the user is empty or longer than %d bytes", maxUserBytes)
	}
	return failed("end all", s.sealed.Invalidate(ctx, store.WithInvalidateTags([]string{user})))
}

// Find is FindCtx without a context.
func (s *Store) Find(token string) ([]byte, bool, error) {
	return s.FindCtx(context.Background(), token)
}

// Commit is CommitCtx without a context.
func (s *Store) Commit(token string, encoded []byte, expiry time.Time) error {
	return s.CommitCtx(context.Background(), token, encoded, expiry)
}

// Delete is DeleteCtx without a context.
func (s *Store) Delete(token string) error { return s.DeleteCtx(context.Background(), token) }

// All is AllCtx without a context.
func (s *Store) All() (map[string][]byte, error) { return s.AllCtx(context.Background()) }

// plausible reports whether a token may be that of a session. A cookie may hold anything, also a name that the Store reserves.
func plausible(token string) bool {
	return token != "" && len(token) <= maxTokenBytes && token != names.KeyCheck
}

func failed(operation string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("sessions: %s: %w", operation, err)
}
