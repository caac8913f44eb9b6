package middleware_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/eko/gocache/lib/v4/store"
	"github.com/stretchr/testify/require"
	"github.com/tink-crypto/tink-go/v2/aead/subtle"
	"github.com/tink-crypto/tink-go/v2/subtle/random"
	"github.com/tink-crypto/tink-go/v2/tink"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/internal/redistest"
	"github.com/sealcache/sealcache/internal/sealtest"
	"github.com/sealcache/sealcache/middleware"
	"github.com/sealcache/sealcache/middleware/internal/keycheck"
	"github.com/sealcache/sealcache/stores/memorystore"
	"github.com/sealcache/sealcache/stores/redisstore"
)

const keyCheckName = "shop:" + keycheck.Name

// checked is a store of the namespace shop, with its log and metrics.
type checked struct {
	*middleware.Store
	log    bytes.Buffer
	reader *sdkmetric.ManualReader
}

func (c *checked) outcomes(t *testing.T) map[string]int64 {
	t.Helper()
	return counts(t, c.reader, "sealcache.key_checks", "sealcache.outcome")
}

func checkedStore(t *testing.T, backing store.StoreInterface, a aeadLike, opts ...middleware.Option) *checked {
	t.Helper()
	c := &checked{reader: sdkmetric.NewManualReader()}
	c.Store = sealed(t, backing, a, append([]middleware.Option{
		middleware.WithNamespace("shop"), middleware.WithLogger(slog.New(slog.NewTextHandler(&c.log, nil))),
		middleware.WithMeterProvider(sdkmetric.NewMeterProvider(sdkmetric.WithReader(c.reader))),
	}, opts...)...)
	return c
}

type aeadLike interface {
	EncryptWithContext(ctx context.Context, plaintext, ad []byte) ([]byte, error)
	DecryptWithContext(ctx context.Context, ciphertext, ad []byte) ([]byte, error)
}

// Processes with the same keys agree. A process with other keys reports it and continues.
func TestCheckComparesKeys(t *testing.T) {
	t.Parallel()
	h := sealtest.Handle(t)
	m := memory(t)
	one := checkedStore(t, m, sealtest.KeyringOf(t, h), middleware.WithDefaults(store.WithExpiration(time.Minute)))
	require.NoError(t, one.Check(t.Context()))
	require.NoError(t, one.Check(t.Context()))
	require.NoError(t, one.KeysDiffer())
	require.Equal(t, map[string]int64{"created": 1, "same": 1}, one.outcomes(t))
	entry := raw(t, m, keyCheckName)
	require.Len(t, entry, 40)
	info, err := middleware.Inspect(entry)
	require.NoError(t, err)
	require.Equal(t, "key check", info.Kind)
	_, ttl, err := m.GetWithTTL(t.Context(), keyCheckName)
	require.NoError(t, err)
	require.Zero(t, ttl, "it does not expire")

	same := checkedStore(t, m, sealtest.KeyringOf(t, h))
	require.NoError(t, same.Check(t.Context()))
	require.NoError(t, same.KeysDiffer())

	other := checkedStore(t, m, sealtest.Keyring(t))
	for range 3 {
		require.NoError(t, other.Check(t.Context()), "a planted entry must not stop a deployment")
	}
	require.ErrorIs(t, other.KeysDiffer(), middleware.ErrUnknownKey)
	require.Equal(t, map[string]int64{"differ": 3}, other.outcomes(t))
	require.Equal(t, 1, strings.Count(other.log.String(), "level=ERROR"), other.log.String())
	require.Contains(t, other.log.String(), "used other encryption keys")
	require.Equal(t, entry, raw(t, m, keyCheckName), "it is never replaced by a process that cannot open it")

	// The right keys return.
	require.NoError(t, m.Delete(t.Context(), keyCheckName))
	require.NoError(t, other.Check(t.Context()))
	require.NoError(t, other.KeysDiffer())
}

func TestCheckFindsPlantedEntries(t *testing.T) {
	t.Parallel()
	m, a := memory(t), keyring(t)
	s := checkedStore(t, m, a, middleware.WithMaxValueBytes(100))
	require.NoError(t, s.Set(t.Context(), "k", "v"))
	for name, planted := range map[string]any{
		"plaintext": "x", "a cache value": raw(t, m, "shop:k"), "of another namespace": func() []byte {
			c, err := keycheck.New(a, "other")
			require.NoError(t, err)
			b, err := c.Seal(t.Context())
			require.NoError(t, err)
			return b
		}(),
		"huge":          make([]byte, 1<<20),
		"later version": []byte{0xC1, 0x5C, 2, 7, 1, 0, 0},
	} {
		require.NoError(t, m.Set(t.Context(), keyCheckName, planted))
		require.NoError(t, s.Check(t.Context()), name)
		require.Error(t, s.KeysDiffer(), name)
		got, err := m.Get(t.Context(), keyCheckName)
		require.NoError(t, err)
		require.Equal(t, planted, got, name)

		// Only an entry that has the right form says something about keys.
		fresh := checkedStore(t, m, a)
		require.NoError(t, fresh.Check(t.Context()))
		keys := name == "of another namespace" || name == "a cache value"
		require.Equal(t, keys, strings.Contains(fresh.log.String(), "other encryption keys"), name)
		require.Equal(t, !keys, strings.Contains(fresh.log.String(), "is not a key check that this release can read"), name)
	}
	require.Equal(t, map[string]int64{"differ": 5}, s.outcomes(t))
	require.NoError(t, m.Delete(t.Context(), keyCheckName))
	require.NoError(t, s.Check(t.Context()))
	require.NoError(t, s.KeysDiffer())
}

// A process whose primary key is newer renews the entry, so that the old key can be destroyed.
func TestCheckRenewsUnderTheNewPrimaryKey(t *testing.T) {
	t.Parallel()
	h := sealtest.Handle(t)
	both, before, now := sealtest.Rotated(t, h)
	m := memory(t)
	id := func() uint32 {
		info, err := middleware.Inspect(raw(t, m, keyCheckName))
		require.NoError(t, err)
		return info.Key.ID
	}
	old := checkedStore(t, m, sealtest.KeyringOf(t, h))
	require.NoError(t, old.Check(t.Context()))
	require.Equal(t, before, id())
	fresh := checkedStore(t, m, sealtest.KeyringOf(t, both))
	require.NoError(t, fresh.Check(t.Context()))
	require.NoError(t, fresh.KeysDiffer())
	require.Equal(t, now, id())
	require.NoError(t, fresh.Check(t.Context()))
	require.Equal(t, map[string]int64{"renewed": 1, "same": 1}, fresh.outcomes(t))
	require.NoError(t, old.Check(t.Context()))
	require.ErrorIs(t, old.KeysDiffer(), middleware.ErrUnknownKey)
}

// A wrap context is introduced by three deployments, without a reseal. A wrapped data key does not show its context, so the
// first Check of each process renews the entry. Later ones leave it alone.
func TestCheckRenewsUnderAWrapContext(t *testing.T) {
	t.Parallel()
	m, kek := memory(t), keyring(t)
	context := map[string]string{"namespace": "shop"}
	for _, opts := range [][]aead.EnvelopeOption{
		nil,
		{aead.WithOtherWrapContexts(context)},
		{aead.WithWrapContext(context), aead.WithOtherWrapContexts(nil)},
		{aead.WithWrapContext(context)},
	} {
		e, err := aead.NewEnvelope(t.Context(), kek, opts...)
		require.NoError(t, err)
		t.Cleanup(func() { _ = e.Close() })
		s := checkedStore(t, m, e)
		require.NoError(t, s.Check(t.Context()))
		require.NoError(t, s.KeysDiffer())
		first := raw(t, m, keyCheckName)
		require.NoError(t, s.Check(t.Context()))
		require.Equal(t, first, raw(t, m, keyCheckName))
	}
}

// A service moves to another KEK without a reseal, and neither KEK shows an id, as with key services.
func TestCheckRenewsUnderAnotherKEK(t *testing.T) {
	t.Parallel()
	m := memory(t)
	kek := func() tink.AEADWithContext {
		a, err := subtle.NewAESGCM(random.GetRandomBytes(32))
		require.NoError(t, err)
		return aead.WithContext(a)
	}
	old, next := kek(), kek()
	set := func(primary, other tink.AEADWithContext) tink.AEADWithContext {
		s, err := aead.NewKEKSet(primary, other)
		require.NoError(t, err)
		return s
	}
	for i, kek := range []tink.AEADWithContext{old, set(old, next), set(next, old), next} {
		e, err := aead.NewEnvelope(t.Context(), kek)
		require.NoError(t, err)
		t.Cleanup(func() { _ = e.Close() })
		s := checkedStore(t, m, e)
		require.NoError(t, s.Check(t.Context()))
		require.NoError(t, s.KeysDiffer(), i)
	}
}

// failingSwap fails a number of swaps.
type failingSwap struct {
	*memorystore.Store
	err    error
	swaps  int
	failed int // swaps that are yet to fail
}

func (f *failingSwap) Capabilities() (owner any, names []string) {
	_, names = f.Store.Capabilities()
	return f, names
}

func (f *failingSwap) CompareAndSwap(ctx context.Context, key string, old []byte, tail int, next []byte, ttl time.Duration) (bool, error) {
	f.swaps++
	if f.failed > 0 {
		f.failed--
		return false, f.err
	}
	return f.Store.CompareAndSwap(ctx, key, old, tail, next, ttl)
}

// A swap that fails at the start must not leave the entry under the former wrap context: the last process would not open it.
func TestCheckRenewsAfterAFailedSwap(t *testing.T) {
	t.Parallel()
	kek := keyring(t)
	context := map[string]string{"namespace": "shop"}
	for name, failure := range map[string]error{
		"an outage":      errors.New("i/o timeout"),
		"another writer": nil,
		"a failover":     replyError("READONLY You can't write against a read only replica."),
	} {
		f := &failingSwap{Store: memory(t), err: failure}
		for i, opts := range [][]aead.EnvelopeOption{
			nil,
			{aead.WithWrapContext(context), aead.WithOtherWrapContexts(nil)},
			{aead.WithWrapContext(context)},
		} {
			e, err := aead.NewEnvelope(t.Context(), kek, opts...)
			require.NoError(t, err)
			t.Cleanup(func() { _ = e.Close() })
			s := checkedStore(t, f, e)
			if i == 1 {
				f.failed = 2
			}
			for range 4 {
				require.NoError(t, s.Check(t.Context()))
			}
			require.NoError(t, s.KeysDiffer(), "%s: process %d", name, i)
		}
		require.Equal(t, 4, f.swaps, "%s: two fail, and two processes renew once", name)
	}
}

// A user who may only read does not try again at each Check.
func TestCheckAcceptsARefusedRenewal(t *testing.T) {
	t.Parallel()
	kek, m := keyring(t), memory(t)
	f := &failingSwap{Store: m, err: replyError("NOPERM User app has no permissions to run the 'evalsha' command"), failed: 10}
	for range 2 {
		e, err := aead.NewEnvelope(t.Context(), kek)
		require.NoError(t, err)
		t.Cleanup(func() { _ = e.Close() })
		s := checkedStore(t, f, e)
		for range 3 {
			require.NoError(t, s.Check(t.Context()))
		}
		require.NoError(t, s.KeysDiffer())
	}
	require.Equal(t, 1, f.swaps)
}

// replyError is an error reply of Redis.
type replyError string

func (e replyError) Error() string { return string(e) }
func (replyError) RedisError()     {}

// The entry belongs to the namespace, so the application cannot use its name.
func TestKeyCheckIsReserved(t *testing.T) {
	t.Parallel()
	m, a := memory(t), keyring(t)
	s := checkedStore(t, m, a)
	bare := sealed(t, m, a)
	require.NoError(t, s.Set(t.Context(), "k", "v"))
	require.NoError(t, s.Check(t.Context()))
	require.NoError(t, bare.Check(t.Context()))
	for _, list := range []struct {
		s    *middleware.Store
		want []string
	}{{s.Store, []string{"k"}}, {bare, []string{"shop:k"}}} {
		var names []string
		for name, err := range list.s.Keys(t.Context()) {
			require.NoError(t, err)
			names = append(names, name)
		}
		require.Equal(t, list.want, names)
	}
	require.ErrorIs(t, s.Set(t.Context(), keycheck.Name, "v"), middleware.ErrUnsupported)
	_, err := s.Get(t.Context(), keycheck.Name)
	require.ErrorIs(t, err, middleware.ErrUnsupported)
	_, err = s.SetIfNotExists(t.Context(), keycheck.Name, "v")
	require.ErrorIs(t, err, middleware.ErrUnsupported)
	require.ErrorIs(t, s.Delete(t.Context(), keycheck.Name), middleware.ErrUnsupported)

	// Clear renews the entry if it was in use.
	require.NoError(t, s.Clear(t.Context()))
	require.NotEmpty(t, raw(t, m, keyCheckName))
	unused := sealed(t, m, a, middleware.WithNamespace("unused"))
	require.NoError(t, unused.Clear(t.Context()))
	_, err = m.GetBytes(t.Context(), "unused:"+keycheck.Name)
	require.ErrorIs(t, err, store.NotFound{})
}

// A store that refuses the entry, and a key service that is down, do not fail Check.
func TestCheckWithoutAnAnswer(t *testing.T) {
	t.Parallel()
	srv := redistest.Start(t, "--min-replicas-to-write", "1") // every write is refused
	backing, err := redisstore.New(srv.Client(t))
	require.NoError(t, err)
	s := checkedStore(t, backing, keyring(t))
	for range 2 {
		require.NoError(t, s.Check(t.Context()))
	}
	require.ErrorContains(t, s.KeysDiffer(), "NOREPLICAS")
	require.Equal(t, map[string]int64{"failed": 2}, s.outcomes(t))
	require.Equal(t, 1, strings.Count(s.log.String(), "level=ERROR"), s.log.String())

	h := sealtest.Handle(t)
	m, k := memory(t), sealtest.KeyringOf(t, h)
	require.NoError(t, checkedStore(t, m, k).Check(t.Context()))
	probe := true // the probe opens first
	flaky := aeadFuncs{k.Encrypt, func(b, ad []byte) ([]byte, error) {
		if strings.Contains(string(ad), keycheck.Name) && probe {
			return nil, errors.New("no route to host")
		}
		return k.Decrypt(b, ad)
	}}
	s = checkedStore(t, m, flaky)
	require.NoError(t, s.Check(t.Context()))
	require.NoError(t, s.KeysDiffer(), "an outage is not a difference")
	require.Equal(t, map[string]int64{"unavailable": 1}, s.outcomes(t))

	// A key that cannot seal now, and a connection that breaks after the ping, are no difference either.
	for _, failure := range []error{aead.ErrClosed, aead.ErrKeyExhausted, aead.ErrTooManyDataKeys} {
		busy := aeadFuncs{func(b, ad []byte) ([]byte, error) {
			if strings.Contains(string(ad), keycheck.Name) {
				return nil, failure
			}
			return k.Encrypt(b, ad)
		}, k.Decrypt}
		s = checkedStore(t, memory(t), busy)
		require.NoError(t, s.Check(t.Context()))
		require.NoError(t, s.KeysDiffer(), failure.Error())
		require.Equal(t, map[string]int64{"unavailable": 1}, s.outcomes(t), failure.Error())
	}
	cut := &failingSwap{Store: m, err: &net.OpError{Op: "read", Err: errors.New("connection reset by peer")}, failed: 1}
	both, _, _ := sealtest.Rotated(t, h)
	s = checkedStore(t, cut, sealtest.KeyringOf(t, both))
	require.NoError(t, s.Check(t.Context()))
	require.NoError(t, s.KeysDiffer())
	require.Equal(t, map[string]int64{"unavailable": 1}, s.outcomes(t))

	// A store that closes after the ping has not refused the entry.
	closed := &closedAfterPing{Store: memory(t)}
	s = checkedStore(t, closed, k)
	require.NoError(t, s.Check(t.Context()))
	require.NoError(t, s.KeysDiffer())
	require.Equal(t, map[string]int64{"unavailable": 1}, s.outcomes(t))
	require.NotContains(t, s.log.String(), "level=ERROR")

	s = checkedStore(t, newPlain("memcache"), k)
	require.NoError(t, s.Check(t.Context()))
	require.NoError(t, s.KeysDiffer())
	require.Equal(t, map[string]int64{"unsupported": 1}, s.outcomes(t))
}

// closedAfterPing closes after each ping that it answers.
type closedAfterPing struct{ *memorystore.Store }

func (c *closedAfterPing) Capabilities() (owner any, names []string) { return c, []string{"Pinger"} }

func (c *closedAfterPing) Ping(ctx context.Context) error {
	if err := c.Store.Ping(ctx); err != nil {
		return err
	}
	return c.Close()
}

// If processes with different keys start together, one makes the entry and the others report that they differ.
func TestCheckRace(t *testing.T) {
	t.Parallel()
	m := memory(t)
	var stores []*checked
	for range 8 {
		stores = append(stores, checkedStore(t, m, keyring(t)))
	}
	var wg sync.WaitGroup
	for _, s := range stores {
		wg.Go(func() {
			for range 10 {
				if err := s.Check(t.Context()); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	agree := 0
	for _, s := range stores {
		if s.KeysDiffer() == nil {
			agree++
		}
	}
	require.Equal(t, 1, agree)
}

// answersOnce is a key service that once answers something else, such as the page of a proxy.
type answersOnce struct {
	aeadLike
	calls, at int
	answer    []byte
}

func (a *answersOnce) EncryptWithContext(ctx context.Context, plaintext, ad []byte) ([]byte, error) {
	if a.calls++; a.calls == a.at {
		return a.answer, nil
	}
	return a.aeadLike.EncryptWithContext(ctx, plaintext, ad)
}

// All processes would report other keys if a wrong answer of the key service became the key check.
func TestWrongAnswerIsNoKeyCheck(t *testing.T) {
	t.Parallel()
	for _, answer := range []string{"<html>502 Bad Gateway</html>", ""} {
		for at := 1; at <= 4; at++ {
			backing, err := memorystore.New()
			require.NoError(t, err)
			ring := sealtest.Keyring(t)
			first := checkedStore(t, backing, &answersOnce{aeadLike: ring, at: at, answer: []byte(answer)})
			for range 3 {
				_ = first.Check(t.Context()) // an error if the answer is that of its test
				require.NoError(t, first.KeysDiffer())
			}
			other := checkedStore(t, backing, ring)
			require.NoError(t, other.Check(t.Context()))
			require.NoError(t, other.KeysDiffer())
			require.Empty(t, other.log.String()+first.log.String())
		}
	}
}
