package storetest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"testing"
	"time"

	"github.com/eko/gocache/lib/v4/store"

	"github.com/sealcache/sealcache/internal/nilcheck"
)

// Subject is a store under test. Each case gets a new one.
type Subject struct {
	// Store is empty. If it needs closing, the function that made it arranges for that with t.Cleanup.
	Store store.StoreInterface

	// Can declares what Store can do.
	Can Capabilities

	// Beside is a store over the same servers or memory, whose entries Store's Clear must leave alone. It is needed
	// where Can.ScopedClear is declared.
	Beside store.StoreInterface

	// Raw returns the bytes that the backing store holds under key, the name that Store was given. It is needed where
	// Can.Sealed is declared.
	Raw func(ctx context.Context, key string) ([]byte, error)

	// Plant puts bytes under key into the backing store, as its operator could. It is needed where Can.Sealed is
	// declared.
	Plant func(ctx context.Context, key string, value []byte) error
}

// Form is the form in which a store returns a type of value.
type Form int

// The forms that a store may give a type of value.
const (
	Refused  Form = iota // Set returns an error
	Panics               // Set panics, a defect
	AsGiven              // it comes back in the type it was given in
	AsBytes              // it comes back as a []byte
	AsString             // it comes back as a string, formatted as go-redis does
)

func (f Form) String() string {
	switch f {
	case Refused:
		return "Refused"
	case Panics:
		return "Panics"
	case AsGiven:
		return "AsGiven"
	case AsBytes:
		return "AsBytes"
	case AsString:
		return "AsString"
	}
	return fmt.Sprintf("Form(%d)", int(f))
}

func (f Form) taken() bool { return f >= AsGiven }

// Capabilities declares what a store can do. The zero value is a store that can do nothing.
type Capabilities struct {
	// Sealed: values lie sealed in the backing store.
	Sealed bool

	// Bytes, Strings and Scalars are the forms of a []byte, of a string, and of bools, integers and floats. The
	// store must accept Bytes or Strings.
	Bytes, Strings, Scalars Form

	// CopiesBytes: the store copies the caller's slice, and returns copies.
	CopiesBytes bool

	// MaxValueBytes is the largest value that the suite may store; 0 is 1 MiB.
	MaxValueBytes int

	// MaxKeyBytes is the longest key that the suite may use; 0 is 64 KiB.
	MaxKeyBytes int

	// AnyKey: a key may be empty and may have any bytes.
	AnyKey bool

	// KeyErrors: a key that is not a string is an error. Otherwise it panics, or is accepted.
	KeyErrors bool

	// Clear: Clear removes every entry.
	Clear bool

	// MissIsNotFound: the error for an absent key is store.NotFound.
	MissIsNotFound bool

	// DeleteMissing: deleting an absent key is not an error.
	DeleteMissing bool

	// HeedsContext: a call with a cancelled context returns its error.
	HeedsContext bool

	// TTL declares how the store treats expirations.
	TTL TTL

	// Tags: Invalidate removes the entries set with a tag.
	Tags bool

	// ConcurrentTags: no entry loses its tag when writers run at the same time.
	ConcurrentTags bool

	// SetIfNotExists: the store is a store.SetIfNotExistsStore, and atomic.
	SetIfNotExists bool

	// ScopedClear: Clear removes the store's own entries and leaves those of Subject.Beside.
	ScopedClear bool

	// Swap, Enumerate, OwnedBytes, BoundedRead, Ping and InvalidatePrefix: the store has the methods of [Swapper],
	// [Enumerator], [BytesStore], [BoundedReader], [Pinger] and [PrefixInvalidator].
	Swap, Enumerate, OwnedBytes, BoundedRead, Ping, InvalidatePrefix bool
}

// TTL declares how a store treats expirations.
type TTL struct {
	// PerEntry: store.WithExpiration is obeyed.
	PerEntry bool

	// Resolution is the unit of lifetimes. The suite asks for multiples of it. An entry may go, and its TTL be
	// reported, that much too soon or too late.
	Resolution time.Duration

	// Max is the longest expiration that is obeyed; an entry set with a longer one is gone at once. 0 means no limit.
	Max time.Duration

	// Reported: GetWithTTL returns the time that an entry has left. Otherwise it returns 0 or less.
	Reported bool

	// None is the TTL that GetWithTTL returns for an entry that was set without expiration. It is 0, or a negative
	// value for any negative duration. If every entry of the store has an expiration, it is about that expiration.
	None time.Duration

	// NeverNone: an expiration of 0 is an error, so that the store must have been made with a default.
	NeverNone bool

	// NegativeIsError: a negative expiration is an error, but for -1 ns, which is none.
	NegativeIsError bool
}

// a testCase tests one rule. It applies unless why or lacks returns a reason against it.
type testCase struct {
	name  string
	rule  string
	why   func(c Capabilities) string
	lacks func(s store.StoreInterface) string
	run   func(t *testing.T, s *subject)
}

// against returns the reason against the case, or nothing.
func (c testCase) against(s *subject) string {
	if c.why != nil {
		if why := c.why(s.Can); why != "" {
			return why
		}
	}
	if c.lacks != nil {
		return c.lacks(s.Store)
	}
	return ""
}

// Run puts the stores that open makes through the suite, one case after the other, each as a subtest with a separate
// store. open must return the same declaration each time.
//
// If the declaration is unusable, for example empty, Run fails once and prints a declaration to start from.
func Run(t *testing.T, open func(t *testing.T) Subject) {
	t.Helper()
	usable := true
	t.Run("subject", func(t *testing.T) {
		s := &subject{Subject: open(t)}
		if err := s.valid(); err != nil {
			usable = false
			t.Fatalf("storetest: the Subject cannot be used: %v%s", err, suggestion(t.Context(), s.Store))
		}
	})
	if !usable {
		return
	}
	ran, skipped := 0, 0
	for _, c := range cases() {
		t.Run(c.name, func(t *testing.T) {
			s := &subject{Subject: open(t), rule: c.rule}
			if err := s.valid(); err != nil {
				t.Fatalf("storetest: the Subject cannot be used: %v", err)
			}
			if why := c.against(s); why != "" {
				skipped++
				t.Skipf("this case does not apply: %s", why)
			}
			ran++
			defer func() {
				if t.Failed() {
					t.Logf("this case checks the rule: %s", c.rule)
				}
			}()
			c.run(t, s)
		})
	}
	t.Logf("%d cases ran, %d did not apply", ran, skipped)
	if ran == 0 {
		t.Error("storetest: no case ran (check Subject.Can and the -run pattern of go test)")
	}
}

func cases() []testCase {
	return slices.Concat(
		basicCases(), keyCases(), expiryCases(), tagCases(),
		reportCases(), conditionalCases(), enumerationCases(), byteCases(), atomicCases(),
		throughCases(), sealedCases(),
	)
}

// subject adds to a Subject the checks that the cases share.
type subject struct {
	Subject
	rule string
}

func (s *subject) valid() error {
	c := s.Can
	switch {
	case nilcheck.IsNil(s.Store):
		return errors.New("Subject.Store is nil")
	case !c.Bytes.taken() && !c.Strings.taken():
		return errors.New("a store must accept []byte or string (declare Bytes or Strings in Subject.Can)")
	case c.ScopedClear && nilcheck.IsNil(s.Beside):
		return errors.New("Subject.Can declares ScopedClear, so set Subject.Beside (another namespace in the same database)")
	case c.Sealed && (s.Raw == nil || s.Plant == nil):
		return errors.New("Subject.Can declares Sealed, so Subject.Raw and Subject.Plant must be set")
	case c.Sealed && (c.Bytes != AsGiven || c.Strings != AsGiven || c.Scalars != AsGiven):
		return errors.New("Subject.Can declares Sealed, so Bytes, Strings and Scalars must be AsGiven")
	case c.TTL.PerEntry && c.TTL.Resolution <= 0:
		return errors.New("Subject.Can declares TTL.PerEntry, so TTL.Resolution must be positive")
	case c.ScopedClear && !c.Clear:
		return errors.New("Subject.Can declares ScopedClear, so it must declare Clear too")
	case c.TTL.Reported && !c.TTL.PerEntry:
		return errors.New("Subject.Can declares TTL.Reported, so it must declare TTL.PerEntry too")
	}
	return nil
}

// value returns text in a form that the store takes.
func (s *subject) value(text string) any {
	if s.Can.Bytes.taken() {
		return []byte(text)
	}
	return text
}

func (s *subject) maxValue() int { return cmp.Or(s.Can.MaxValueBytes, 1<<20) }

func (s *subject) maxKey() int { return cmp.Or(s.Can.MaxKeyBytes, 64<<10) }

func (s *subject) set(t *testing.T, key, text string, options ...store.Option) {
	t.Helper()
	noError(t, "Set of key "+shown(key), s.Store.Set(t.Context(), key, s.value(text), options...))
}

// holds checks that key holds text in any form. after names the calls that came before.
func (s *subject) holds(t *testing.T, after, key, want string) {
	t.Helper()
	got, err := s.Store.Get(t.Context(), key)
	switch {
	case err != nil:
		t.Fatalf("Get of key %s failed, although the entry should exist: %v\n(after %s)", shown(key), err, after)
	case got == nil:
		t.Fatalf("Get of key %s returned nil and no error, want %s\n(after %s)", shown(key), shown(want), after)
	case textOf(got) != want:
		t.Fatalf("Get of key %s %s\n(after %s)", shown(key), difference(textOf(got), want), after)
	}
}

// lacks checks that key is absent. after names the calls that came before.
func (s *subject) lacks(t *testing.T, after, key string) {
	t.Helper()
	if present, err := s.present(t.Context(), key); err != nil {
		t.Fatalf("Get of key %s returned the error %q, want an error that wraps store.NotFound\n(there should be no entry after %s)", shown(key), err, after)
	} else if present {
		t.Fatalf("Get of key %s found an entry, but there should be none\n(after %s)", shown(key), after)
	}
}

// there reports whether key, which may have expired, has an entry.
func (s *subject) there(t *testing.T, key string) bool {
	t.Helper()
	present, err := s.present(t.Context(), key)
	if err != nil {
		t.Fatalf("Get of key %s returned the error %q\n(want the value, or an error that wraps store.NotFound after the expiration)", shown(key), err)
	}
	return present
}

// present reports whether key has an entry. If the store does not return store.NotFound for a miss, every error counts as a
// miss.
func (s *subject) present(ctx context.Context, key string) (bool, error) {
	_, err := s.Store.Get(ctx, key)
	switch {
	case err == nil:
		return true, nil
	case !s.Can.MissIsNotFound || errors.Is(err, store.NotFound{}):
		return false, nil
	}
	return false, err
}

// declared fails if a feature is declared and missing, or present and not declared. meaning states that it
// is present.
func declared(t *testing.T, name, meaning string, is, want bool) {
	t.Helper()
	switch {
	case want && !is:
		t.Errorf("Subject.Can declares %s, but it is not true that %s", name, meaning)
	case is && !want:
		t.Errorf("Subject.Can must declare %s, because %s", name, meaning)
	}
}

// noError ends the test if a call failed.
func noError(t *testing.T, call string, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("%s failed, want no error: %v", call, err)
	}
}

// notFound checks the error of a call for an absent key.
func notFound(t *testing.T, method string, err error) {
	t.Helper()
	if !errors.Is(err, store.NotFound{}) {
		t.Errorf("%s of an absent key returned %s, want an error that wraps store.NotFound", method, errorText(err))
	}
}

// heeded checks the error of a call with a cancelled context.
func heeded(t *testing.T, method string, err error) {
	t.Helper()
	if !errors.Is(err, context.Canceled) {
		t.Errorf("%s with a cancelled context returned %s, want an error that wraps context.Canceled", method, errorText(err))
	}
}

// panicking runs f and returns the value of its panic.
func panicking(f func()) (reason any) {
	defer func() { reason = recover() }()
	f()
	return nil
}

// eventually polls until f is true.
func eventually(t *testing.T, within time.Duration, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(within); ; time.Sleep(2 * time.Millisecond) {
		if f() {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("after %v, this is still not true: %s", within, what)
		}
	}
}

func closeAfter(t *testing.T, c io.Closer) {
	t.Helper()
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Errorf("Close of the %T failed at the end of the test: %v", c, err)
		}
	})
}

// cancelled returns a context that has ended.
func cancelled(ctx context.Context) context.Context {
	ctx, cancel := context.WithCancel(ctx)
	cancel()
	return ctx
}

// tooLarge reports whether an error says that a value is larger than a limit.
func tooLarge(err error) bool {
	var large interface{ TooLarge() bool }
	return errors.As(err, &large) && large.TooLarge()
}

// without returns a function that returns why for a store that does not implement T.
func without[T any](why string) func(store.StoreInterface) string {
	return func(s store.StoreInterface) string { return unless(has[T](s), why) }
}

// needs returns the reason against a case if Subject.Can does not declare a field that the case needs.
func needs(is bool, field string) string { return unless(is, "Subject.Can does not declare "+field) }

// unless returns why if ok is false.
func unless(ok bool, why string) string {
	if ok {
		return ""
	}
	return why
}
