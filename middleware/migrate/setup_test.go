package migrate_test

import (
	"context"
	"fmt"
	"log"
	"log/slog"
	"os"
	"strings"
	"testing"

	"github.com/eko/gocache/lib/v4/store"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	tinkaead "github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/tink"
	"go.uber.org/goleak"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/internal/redistest"
	"github.com/sealcache/sealcache/middleware"
	"github.com/sealcache/sealcache/middleware/audit"
	"github.com/sealcache/sealcache/middleware/internal/rediswalk"
	"github.com/sealcache/sealcache/middleware/migrate"
	"github.com/sealcache/sealcache/stores/redisstore"
)

// shared are servers that every test may use; each takes a prefix of its own.
var shared struct {
	single  *redistest.Server
	cluster *redistest.Cluster
}

func TestMain(m *testing.M) {
	redis.SetLogger(silent{}) // faults are what some tests make
	slog.SetDefault(slog.New(slog.DiscardHandler))
	if os.Getenv(childVariable) != "" {
		os.Exit(child())
	}
	code := func() int {
		ctx := context.Background()
		var err error
		if shared.single, err = redistest.Run(ctx, redistest.Options{Args: []string{"--databases", "200"}}); err != nil {
			log.Print(err)
			return 1
		}
		defer func() { _ = shared.single.Close() }()
		if shared.cluster, err = redistest.RunCluster(ctx, redistest.Options{}); err != nil {
			log.Print(err)
			return 1
		}
		defer func() { _ = shared.cluster.Close() }()
		return m.Run()
	}()
	if code == 0 {
		// A pool whose server died looks once a second whether it was closed.
		if err := goleak.Find(goleak.IgnoreAnyFunction("github.com/redis/go-redis/v9/internal/pool.(*ConnPool).tryDial")); err != nil {
			fmt.Fprintln(os.Stderr, err) // slog.SetDefault has silenced package log
			code = 1
		}
	}
	os.Exit(code)
}

type silent struct{}

func (silent) Printf(context.Context, string, ...any) {}

// on runs a test over a single node and over a Cluster, with a namespace of its own.
func on(t *testing.T, test func(t *testing.T, rdb redis.UniversalClient, ns string)) {
	t.Helper()
	t.Parallel()
	ns := strings.NewReplacer("/", "-").Replace(t.Name())
	for name, client := range map[string]func(t *testing.T) redis.UniversalClient{
		"single":  func(t *testing.T) redis.UniversalClient { t.Helper(); return shared.single.Client(t) },
		"cluster": func(t *testing.T) redis.UniversalClient { t.Helper(); return shared.cluster.Client(t) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, client(t), ns)
		})
	}
}

func handle(t testing.TB) *keyset.Handle {
	t.Helper()
	h, err := keyset.NewHandle(tinkaead.AES256GCMKeyTemplate())
	require.NoError(t, err)
	return h
}

// rotated is a keyset with one more key, which is primary, and the ids of the old and the new one.
func rotated(t testing.TB, h *keyset.Handle) (both *keyset.Handle, old, now uint32) {
	t.Helper()
	m := keyset.NewManagerFromHandle(h)
	now, err := m.Add(tinkaead.AES256GCMKeyTemplate())
	require.NoError(t, err)
	require.NoError(t, m.SetPrimary(now))
	both, err = m.Handle()
	require.NoError(t, err)
	return both, h.KeysetInfo().GetPrimaryKeyId(), now
}

func keyringOf(t testing.TB, h *keyset.Handle) *aead.Keyring {
	t.Helper()
	k, err := aead.NewKeyring(h)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, k.Close()) })
	return k
}

func keyring(t testing.TB) *aead.Keyring { t.Helper(); return keyringOf(t, handle(t)) }

func envelopeOf(t testing.TB, kek tink.AEADWithContext) *aead.Envelope {
	t.Helper()
	e, err := aead.NewEnvelope(t.Context(), kek)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, e.Close()) })
	return e
}

func envelope(t testing.TB) *aead.Envelope { t.Helper(); return envelopeOf(t, keyring(t)) }

// sealedStore is the application's store.
func sealedStore(t testing.TB, rdb redis.UniversalClient, a tink.AEADWithContext, ns string, opts ...middleware.Option) *middleware.Store {
	t.Helper()
	backing, err := redisstore.New(rdb)
	require.NoError(t, err)
	if ns != "" {
		opts = append(opts, middleware.WithNamespace(ns))
	}
	s, err := middleware.New(backing, a, opts...)
	require.NoError(t, err)
	return s
}

func run(t testing.TB, rdb redis.UniversalClient, c migrate.Config) *migrate.Report {
	t.Helper()
	return runBy(t.Context(), t, rdb, c)
}

// unproven is a run where no key check proves the keys, unless the test gives a proof.
func unproven(ctx context.Context, rdb redis.UniversalClient, c migrate.Config) (*migrate.Report, error) {
	c.AllowUnproven = c.Proof == ""
	return migrate.Run(ctx, rdb, c)
}

func runBy(ctx context.Context, t testing.TB, rdb redis.UniversalClient, c migrate.Config) *migrate.Report {
	t.Helper()
	r, err := unproven(ctx, rdb, c)
	require.NoError(t, err)
	require.True(t, r.Complete)
	return r
}

// expiry is when an entry expires, as Redis has it.
func expiry(t testing.TB, rdb redis.UniversalClient, name string) int64 {
	t.Helper()
	n, err := rdb.Do(t.Context(), "pexpiretime", name).Int64()
	require.NoError(t, err)
	return n
}

func stored(t testing.TB, rdb redis.UniversalClient, name string) []byte {
	t.Helper()
	b, err := rdb.Get(t.Context(), name).Bytes()
	require.NoError(t, err)
	return b
}

func isSealed(b []byte) bool { return len(b) > 2 && b[0] == 0xC1 && b[1] == 0x5C }

func value(t testing.TB, s store.StoreInterface, key string) any {
	t.Helper()
	v, err := s.Get(t.Context(), key)
	require.NoError(t, err)
	return v
}

func name(ns string, i int) string { return fmt.Sprintf("%s:k%d", ns, i) }

// nameless is a key-encryption key whose ciphertexts begin as a key service's do, and not with the id of a key.
type nameless struct {
	kek   tink.AEADWithContext
	start string
}

func (n nameless) EncryptWithContext(ctx context.Context, plaintext, ad []byte) ([]byte, error) {
	ct, err := n.kek.EncryptWithContext(ctx, plaintext, ad)
	return append([]byte(n.start), ct...), err
}

func (n nameless) DecryptWithContext(ctx context.Context, ct, ad []byte) ([]byte, error) {
	if len(ct) < len(n.start) || string(ct[:len(n.start)]) != n.start {
		return nil, aead.ErrUnauthentic
	}
	return n.kek.DecryptWithContext(ctx, ct[len(n.start):], ad)
}

func fill(t testing.TB, rdb redis.UniversalClient, ns string, n int) {
	t.Helper()
	pipe := rdb.Pipeline()
	for i := range n {
		pipe.Set(t.Context(), name(ns, i), fmt.Sprint("value ", i), 0)
	}
	_, err := pipe.Exec(t.Context())
	require.NoError(t, err)
}

// tuned returns a context with numbers for tests.
func tuned(ctx context.Context, n rediswalk.Tuning) context.Context {
	return rediswalk.WithTuning(ctx, n)
}

// small has batches of this many names.
func small(ctx context.Context, batch int) context.Context {
	return tuned(ctx, rediswalk.Tuning{BatchSize: batch})
}

func audited(t testing.TB, rdb redis.UniversalClient, c audit.Config) *audit.Report {
	t.Helper()
	return auditedBy(t.Context(), t, rdb, c)
}

func auditedBy(ctx context.Context, t testing.TB, rdb redis.UniversalClient, c audit.Config) *audit.Report {
	t.Helper()
	r, err := audit.Run(ctx, rdb, c)
	require.NoError(t, err)
	require.True(t, r.Complete)
	return r
}

func use(r *audit.Report, key string) int64 {
	for _, k := range r.Keys {
		if k.Key == key {
			return k.Values
		}
	}
	return 0
}

// allTypes are the types of Redis that can be ignored.
var allTypes = []string{"hash", "list", "set", "zset", "stream"}
