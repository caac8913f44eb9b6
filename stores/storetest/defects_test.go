package storetest_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"os"
	"os/exec"
	"path"
	"strings"
	"testing"
	"time"

	"github.com/eko/gocache/lib/v4/store"

	"github.com/sealcache/sealcache/stores/memorystore"
	"github.com/sealcache/sealcache/stores/storetest"
)

// sound returns the capabilities of memorystore.
func sound() storetest.Capabilities {
	return storetest.Capabilities{
		Bytes: storetest.AsGiven, Strings: storetest.AsGiven, Scalars: storetest.AsString,
		CopiesBytes: true, AnyKey: true, KeyErrors: true, MissIsNotFound: true, DeleteMissing: true, Clear: true, HeedsContext: true,
		TTL:  storetest.TTL{PerEntry: true, Resolution: time.Millisecond, Reported: true, NegativeIsError: true},
		Tags: true, ConcurrentTags: true, SetIfNotExists: true, Swap: true, Enumerate: true, OwnedBytes: true, BoundedRead: true,
		Ping: true, InvalidatePrefix: true,
	}
}

// A defect is one fault of a store, and the case that must find it.
type defect struct {
	fails   string
	subject func(s *memorystore.Store) storetest.Subject
}

func defective(fails string, wrap func(s *memorystore.Store) store.StoreInterface) defect {
	return defect{fails, func(s *memorystore.Store) storetest.Subject {
		return storetest.Subject{Store: wrap(s), Can: sound()}
	}}
}

func misdeclared(fails string, change func(c *storetest.Capabilities)) defect {
	return defect{fails, func(s *memorystore.Store) storetest.Subject {
		c := sound()
		change(&c)
		return storetest.Subject{Store: s, Can: c}
	}}
}

var errDefect = errors.New("defect")

// allDefects returns the defects by name.
func allDefects() map[string]defect {
	all := maps.Clone(defects)
	maps.Copy(all, atomicDefects())
	maps.Copy(all, batchDefects())
	return all
}

var defects = map[string]defect{
	"a miss without error": defective("miss", func(s *memorystore.Store) store.StoreInterface {
		return getting{s, func(v any, ttl time.Duration, err error) (any, time.Duration, error) { return v, ttl, nil }}
	}),
	"another error for a miss": defective("miss", func(s *memorystore.Store) store.StoreInterface {
		return getting{s, func(v any, ttl time.Duration, err error) (any, time.Duration, error) {
			if err != nil {
				err = errDefect
			}
			return v, ttl, err
		}}
	}),
	"strings for bytes": defective("types", func(s *memorystore.Store) store.StoreInterface {
		return getting{s, func(v any, ttl time.Duration, err error) (any, time.Duration, error) {
			if b, ok := v.([]byte); ok {
				v = string(b)
			}
			return v, ttl, err
		}}
	}),
	"whole seconds": defective("reported_TTL", func(s *memorystore.Store) store.StoreInterface {
		return getting{s, func(v any, ttl time.Duration, err error) (any, time.Duration, error) {
			return v, ttl.Truncate(time.Second), err
		}}
	}),
	"minus one for no expiration": defective("no_expiration", func(s *memorystore.Store) store.StoreInterface {
		return getting{s, func(v any, ttl time.Duration, err error) (any, time.Duration, error) {
			if ttl == 0 {
				ttl = -1
			}
			return v, ttl, err
		}}
	}),
	"expires late": defective("expiration", func(s *memorystore.Store) store.StoreInterface {
		// So much that the suite notices it also on a machine that stops for some seconds. The same holds for the next one.
		return setting{s, func(o *store.Options) { o.Expiration *= 1000 }}
	}),
	"expires early": defective("expiration", func(s *memorystore.Store) store.StoreInterface {
		return setting{s, func(o *store.Options) { o.Expiration /= 1_000_000 }}
	}),
	"takes negative expirations": defective("negative_expirations", func(s *memorystore.Store) store.StoreInterface {
		return setting{s, func(o *store.Options) { o.Expiration = max(o.Expiration, 0) }}
	}),
	"drops tags": defective("invalidate", func(s *memorystore.Store) store.StoreInterface {
		return setting{s, func(o *store.Options) { o.Tags = nil }}
	}),
	"forgets tags on overwrite":   defective("an_overwrite_keeps_former_tags", func(s *memorystore.Store) store.StoreInterface { return forgetful{s} }),
	"clears nothing":              defective("clear", func(s *memorystore.Store) store.StoreInterface { return noopClear{s} }),
	"swaps in two steps":          defective("swap_loses_no_update", func(s *memorystore.Store) store.StoreInterface { return twoSteps{s} }),
	"compares heads":              defective("swap", func(s *memorystore.Store) store.StoreInterface { return twoSteps{s} }),
	"matches patterns":            defective("enumerate", func(s *memorystore.Store) store.StoreInterface { return pattern{s} }),
	"clears by pattern":           defective("clear_a_prefix", func(s *memorystore.Store) store.StoreInterface { return pattern{s} }),
	"hides what it can":           defective("declarations", func(s *memorystore.Store) store.StoreInterface { return struct{ store.StoreInterface }{s} }),
	"copies, undeclared":          misdeclared("copies", func(c *storetest.Capabilities) { c.CopiesBytes = false }),
	"has Ping, undeclared":        misdeclared("declarations", func(c *storetest.Capabilities) { c.Ping = false }),
	"refuses keys, undeclared":    misdeclared("other_keys", func(c *storetest.Capabilities) { c.KeyErrors = false }),
	"keeps scalars, it says":      misdeclared("types", func(c *storetest.Capabilities) { c.Scalars = storetest.AsGiven }),
	"panics, it says":             misdeclared("types", func(c *storetest.Capabilities) { c.Scalars = storetest.Panics }),
	"no reported TTL, it says":    misdeclared("unreported_TTL", func(c *storetest.Capabilities) { c.TTL.Reported = false }),
	"scoped Clear, nothing aside": misdeclared("clear_leaves_others_alone", func(c *storetest.Capabilities) { c.ScopedClear = true }),
	"clears its neighbour": {"clear_leaves_others_alone", func(s *memorystore.Store) storetest.Subject {
		c := sound()
		c.ScopedClear = true
		return storetest.Subject{Store: s, Beside: s, Can: c}
	}},
	"inherits capabilities": defective("declarations", func(s *memorystore.Store) store.StoreInterface { return &noopClear{s} }),
	"lists what it lacks": defective("declarations", func(s *memorystore.Store) store.StoreInterface {
		return &lists{s, []string{"Adviser"}}
	}),
	"lists nothing":                defective("declarations", func(s *memorystore.Store) store.StoreInterface { return &lists{Store: s} }),
	"reads past the limit":         defective("bounded_reads", func(s *memorystore.Store) store.StoreInterface { return unbounded{s} }),
	"ignores the TTL":              defective("set_with_a_TTL", func(s *memorystore.Store) store.StoreInterface { return untimed{s} }),
	"forgets tags with a TTL":      defective("set_with_a_TTL", func(s *memorystore.Store) store.StoreInterface { return untagging{s} }),
	"sealed, it says":              pretendsToSeal("no_plaintext_in_the_store"),
	"numbers by length":            pretendsToSeal("magnitude"),
	"opens moved values":           pretendsToSeal("a_moved_value_does_not_open"),
	"opens altered values":         pretendsToSeal("an_altered_value_does_not_open"),
	"opens planted values":         pretendsToSeal("planted_plaintext"),
	"invalidates what is foreign":  defective("invalidate_within_a_prefix", func(s *memorystore.Store) store.StoreInterface { return unprefixed{s} }),
	"is a nil pointer":             defective("subject", func(*memorystore.Store) store.StoreInterface { return (*memorystore.Store)(nil) }),
	"declares what leaves nothing": misdeclared("set,_get,_delete", func(c *storetest.Capabilities) { *c = storetest.Capabilities{} }),
}

// Each defect runs in its own process, in which the suite must fail.
func TestDefectsAreFound(t *testing.T) {
	t.Parallel()
	const variable = "STORETEST_DEFECT"
	if name := os.Getenv(variable); name != "" {
		storetest.Run(t, func(t *testing.T) storetest.Subject {
			s, err := memorystore.New()
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = s.Close() })
			return allDefects()[name].subject(s)
		})
		return
	}
	for name, d := range allDefects() {
		t.Run(name, func(t *testing.T) {
			cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestDefectsAreFound$/^"+d.fails+"$", "-test.v")
			cmd.Env = append(os.Environ(), variable+"="+name)
			out, err := cmd.CombinedOutput()
			var exit *exec.ExitError
			if !errors.As(err, &exit) || !bytes.Contains(out, []byte("--- FAIL: TestDefectsAreFound/"+d.fails+" ")) {
				t.Errorf("the suite passed, or failed elsewhere: %v\n%s", err, out)
			}
		})
	}
}

// A subject without a declaration fails once, and Run prints a declaration.
func TestASubjectWithoutDeclarationIsToldOne(t *testing.T) {
	t.Parallel()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestDefectsAreFound$", "-test.v")
	cmd.Env = append(os.Environ(), "STORETEST_DEFECT=declares what leaves nothing")
	out, err := cmd.CombinedOutput()
	if err == nil || bytes.Count(out, []byte("--- FAIL")) != 2 { // one failure each for the test and its subtest
		t.Errorf("%v\n%s", err, out)
	}
	for _, line := range []string{
		"Bytes: storetest.AsGiven,", "Scalars: storetest.AsString,", "CopiesBytes: true,", "AnyKey: true,", "KeyErrors: true,",
		"Clear: true,", "MissIsNotFound: true,", "DeleteMissing: true,", "HeedsContext: true,", "Tags: true,",
		"SetIfNotExists: true,", "Swap: true,", "BoundedRead: true,", "InvalidatePrefix: true,",
		"TTL: storetest.TTL{PerEntry: true, Reported: true, Resolution: time.Millisecond},",
	} {
		if !bytes.Contains(out, []byte(line)) {
			t.Errorf("%s is not suggested\n%s", line, out)
		}
	}
}

// A filter that matches no case must not pass.
func TestASuiteThatRunsNothingFails(t *testing.T) {
	t.Parallel()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestDefectsAreFound$/^no_such_case$")
	cmd.Env = append(os.Environ(), "STORETEST_DEFECT=clears nothing")
	out, err := cmd.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "no case ran") {
		t.Errorf("%v\n%s", err, out)
	}
}

// A store may return errors for some keys that are not strings, and accept others. It does not declare KeyErrors.
func TestSomeKeysMayBeErrors(t *testing.T) {
	t.Parallel()
	storetest.Run(t, func(t *testing.T) storetest.Subject {
		s, err := memorystore.New()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.Close() })
		c := sound()
		c.KeyErrors, c.SetIfNotExists, c.Swap, c.Enumerate = false, false, false, false
		c.OwnedBytes, c.BoundedRead, c.Ping, c.InvalidatePrefix = false, false, false, false
		return storetest.Subject{Store: formatsKeys{s}, Can: c}
	})
}

// formatsKeys stores a value under the text of its key. It refuses only a nil key.
type formatsKeys struct{ store.StoreInterface }

func (f formatsKeys) Get(ctx context.Context, key any) (any, error) {
	return f.StoreInterface.Get(ctx, text(key))
}

func (f formatsKeys) GetWithTTL(ctx context.Context, key any) (any, time.Duration, error) {
	return f.StoreInterface.GetWithTTL(ctx, text(key))
}

func (f formatsKeys) Set(ctx context.Context, key, value any, options ...store.Option) error {
	return f.StoreInterface.Set(ctx, text(key), value, options...)
}

func (f formatsKeys) Delete(ctx context.Context, key any) error {
	return f.StoreInterface.Delete(ctx, text(key))
}

func text(key any) any {
	if key == nil {
		return nil
	}
	return fmt.Sprint(key)
}

type getting struct {
	*memorystore.Store
	change func(any, time.Duration, error) (any, time.Duration, error)
}

func (g getting) Get(ctx context.Context, key any) (any, error) {
	v, _, err := g.GetWithTTL(ctx, key)
	return v, err
}

func (g getting) GetWithTTL(ctx context.Context, key any) (any, time.Duration, error) {
	return g.change(g.Store.GetWithTTL(ctx, key))
}

type setting struct {
	*memorystore.Store
	change store.Option
}

func (s setting) Set(ctx context.Context, key, value any, options ...store.Option) error {
	return s.Store.Set(ctx, key, value, append(options, s.change)...)
}

type forgetful struct{ *memorystore.Store }

func (f forgetful) Set(ctx context.Context, key, value any, options ...store.Option) error {
	_ = f.Delete(ctx, key)
	return f.Store.Set(ctx, key, value, options...)
}

type noopClear struct{ *memorystore.Store }

func (noopClear) Clear(context.Context) error { return nil }

// lists adds names to the declared capabilities, or declares none.
type lists struct {
	*memorystore.Store
	more []string
}

func (l *lists) Capabilities() (owner any, names []string) {
	if l.more == nil {
		return l, nil
	}
	_, names = l.Store.Capabilities()
	return l, append(names, l.more...)
}

type unbounded struct{ *memorystore.Store }

func (u unbounded) GetBytesMax(ctx context.Context, key string, _ int) ([]byte, error) {
	return u.GetBytes(ctx, key)
}

type twoSteps struct{ *memorystore.Store }

func (s twoSteps) CompareAndSwap(ctx context.Context, key string, old []byte, tail int, next []byte, ttl time.Duration) (bool, error) {
	got, err := s.GetBytes(ctx, key)
	switch {
	case errors.Is(err, store.NotFound{}):
		return false, nil
	case err != nil:
		return false, err
	}
	if tail <= 0 || tail > len(old) {
		tail = len(old)
	}
	if len(got) != len(old) || !bytes.Equal(got[:tail], old[:tail]) {
		return false, nil
	}
	time.Sleep(time.Millisecond) // widens the window that the case tests
	return true, s.SetBytes(ctx, key, next)
}

type unprefixed struct{ *memorystore.Store }

func (u unprefixed) InvalidatePrefix(ctx context.Context, _ string, options ...store.InvalidateOption) error {
	return u.Invalidate(ctx, options...)
}

type pattern struct{ *memorystore.Store }

func (p pattern) Keys(ctx context.Context, prefix string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		for key, err := range p.Store.Keys(ctx, "") {
			if ok, _ := path.Match(prefix+"*", key); ok && !yield(key, err) {
				return
			}
		}
	}
}

func (p pattern) ClearPrefix(ctx context.Context, prefix string) error {
	for key := range p.Keys(ctx, prefix) {
		_ = p.Delete(ctx, key)
	}
	return nil
}

// pretendsToSeal declares a plaintext store as sealed.
func pretendsToSeal(fails string) defect {
	return defect{fails, func(s *memorystore.Store) storetest.Subject {
		c := sound()
		c.Sealed, c.Scalars = true, storetest.AsGiven
		return storetest.Subject{
			Store: s,
			Can:   c,
			Raw:   s.GetBytes,
			Plant: func(ctx context.Context, key string, value []byte) error { return s.SetBytes(ctx, key, value) },
		}
	}}
}

// untimed stores what SetBytesWithTTL is given without an expiry.
type untimed struct{ *memorystore.Store }

func (u untimed) SetBytesWithTTL(ctx context.Context, key string, value []byte, _ time.Duration) error {
	return u.SetBytes(ctx, key, value)
}

// untagging removes the former tags of an entry in SetBytesWithTTL.
type untagging struct{ *memorystore.Store }

func (u untagging) SetBytesWithTTL(ctx context.Context, key string, value []byte, ttl time.Duration) error {
	_ = u.Delete(ctx, key)
	return u.Store.SetBytesWithTTL(ctx, key, value, ttl)
}
