package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/eko/gocache/lib/v4/store"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	otelattribute "go.opentelemetry.io/otel/attribute"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/internal/redistest"
	"github.com/sealcache/sealcache/internal/runbooktest"
	"github.com/sealcache/sealcache/middleware"
	"github.com/sealcache/sealcache/stores/redisstore"
)

// sealcache runs a command and returns its status and what it said.
func sealcache(t *testing.T, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	var out, log bytes.Buffer
	status = run(t.Context(), args, nil, &out, &log)
	return status, out.String(), log.String()
}

// instance is one process of a service, as far as its cache goes: a deployment replaces the store.
type instance struct {
	store  atomic.Pointer[store.StoreInterface]
	meters *sdkmetric.MeterProvider
	reader *sdkmetric.ManualReader
}

func newInstance() *instance {
	i := &instance{reader: sdkmetric.NewManualReader()}
	i.meters = sdkmetric.NewMeterProvider(sdkmetric.WithReader(i.reader))
	return i
}

func (i *instance) deploy(s store.StoreInterface) { i.store.Store(&s) }

// count is what an operator sees of a counter, where an attribute has a value.
func (i *instance) count(t *testing.T, name, attribute, value string) int64 {
	t.Helper()
	var data metricdata.ResourceMetrics
	require.NoError(t, i.reader.Collect(t.Context(), &data))
	sum := int64(0)
	for _, scope := range data.ScopeMetrics {
		for _, m := range scope.Metrics {
			if m.Name != name {
				continue
			}
			for _, p := range m.Data.(metricdata.Sum[int64]).DataPoints { //nolint:forcetypeassert // a counter is one
				if v, ok := p.Attributes.Value(otelattribute.Key(attribute)); ok && v.AsString() == value {
					sum += p.Value
				}
			}
		}
	}
	return sum
}

// service is an application at work on its instances. Each of its goroutines has its own keys, and goes to any instance.
type service struct {
	instances []*instance
	ops       atomic.Int64
	rounds    [4]atomic.Int64 // of each goroutine
	old       int             // entries "old:0" and so on, which it only reads
}

func (s *service) work(ctx context.Context, which int) error {
	held := map[int]string{}
	for i := 0; ctx.Err() == nil; i++ {
		s.rounds[which].Add(1)
		at := *s.instances[i/3%len(s.instances)].store.Load() // each is written through and read through
		if i%5 == 4 && s.old > 0 {                            // what was there before
			n := (i/5*4 + which) % s.old
			got, err := at.Get(context.Background(), fmt.Sprint("old:", n))
			if err != nil {
				return err
			}
			if string(got.([]byte)) != fmt.Sprint("old ", n) { //nolint:forcetypeassert // redisstore returns []byte
				return errors.New("an old entry has changed")
			}
			s.ops.Add(1)
			continue
		}
		k := i % 50
		key := fmt.Sprintf("w%d:%d", which, k)
		s.ops.Add(1)
		if i%3 == 0 {
			v := fmt.Sprint("value ", i)
			if err := at.Set(context.Background(), key, []byte(v), store.WithExpiration(time.Hour)); err != nil {
				return err
			}
			held[k] = v
			continue
		}
		got, err := at.Get(context.Background(), key)
		switch v, ok := held[k]; {
		case !ok && !errors.Is(err, store.NotFound{}):
			return fmt.Errorf("an entry that was never set: %w", err)
		case ok && err != nil:
			return err
		case ok && string(got.([]byte)) != v: //nolint:forcetypeassert // redisstore returns []byte
			return errors.New("an update was lost")
		}
	}
	return nil
}

// settle waits until each call has ended that the goroutines have begun before it, or until ctx ends.
func (s *service) settle(ctx context.Context, t *testing.T) {
	t.Helper()
	for i := range s.rounds {
		before := s.rounds[i].Load()
		require.Eventually(t, func() bool { return s.rounds[i].Load() > before || ctx.Err() != nil }, 2*time.Minute, time.Millisecond)
	}
}

// The runbook, forward and back, against a service that is at work all the time and never notices.
func TestRunbook(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	server := redistest.Start(t)
	rdb := redis.NewClient(server.ClientOptions())
	t.Cleanup(func() { _ = rdb.Close() })
	dir := t.TempDir()
	kekFile := filepath.Join(dir, "kek.json")
	book := runbooktest.Open(t, runbookFile)
	book.Words["go build -C cmd/sealcache -o \"$PWD/sealcache\" . "] = "command -v sealcache " // the test brings it
	book.Words["redis://localhost:6379/0"] = server.URL()
	book.Words["/run/secrets/kek.json"] = filepath.ToSlash(kekFile)
	book.Follow(t, "The command")
	book.Follow(t, "The command")
	book.Follow(t, "Before") // makes the KEK and the keyset
	kek, err := aead.OpenKEK(ctx, "file://"+filepath.ToSlash(kekFile)+"?reload=off")
	require.NoError(t, err)
	keysetFile := filepath.Join(book.Dir, "keyset.json")
	ring, err := aead.OpenKeyring(ctx, aead.FileSource(keysetFile), kek)
	require.NoError(t, err)
	t.Cleanup(func() { _ = ring.Close() })
	// distribute waits until the instances have the changed keyset. They open it as docs/keys.md does, so nothing else reloads it.
	distribute := func() {
		t.Helper()
		file, err := aead.OpenKeyring(ctx, aead.FileSource(keysetFile), kek, aead.WithoutReload())
		require.NoError(t, err)
		defer file.Close()
		states := func(k *aead.Keyring) (keys []string) {
			for _, i := range k.Keys() {
				keys = append(keys, fmt.Sprint(i.ID, i.Status, i.Primary))
			}
			return keys
		}
		want := states(file)
		require.Eventually(t, func() bool { return slices.Equal(states(ring), want) }, 2*time.Minute, time.Millisecond)
		require.NoError(t, ring.Reload(ctx)) // waits for a reload that has not yet told the envelopes
	}
	backing, err := redisstore.New(rdb)
	require.NoError(t, err)
	for i := range 3000 {
		require.NoError(t, rdb.Set(ctx, fmt.Sprintf("shop:old:%d", i), fmt.Sprint("old ", i), time.Duration(i%2)*time.Hour).Err())
	}

	app := &service{old: 3000}
	const instances = 3
	for range instances {
		app.instances = append(app.instances, newInstance())
	}
	// deploy rolls a state out, one instance after the other, with some work in between. Every process has data keys of its
	// own. Nil is off.
	deployTo := func(policy *middleware.PlaintextPolicy, to ...*instance) {
		for _, i := range to {
			if policy == nil {
				i.deploy(plaintextStore{backing})
			} else {
				e, err := aead.NewEnvelope(ctx, ring)
				require.NoError(t, err)
				t.Cleanup(func() { _ = e.Close() })
				opts := []middleware.Option{middleware.WithNamespace("shop"), middleware.WithMeterProvider(i.meters)}
				if *policy != middleware.RejectPlaintext {
					opts = append(opts, middleware.WithPlaintext(*policy), middleware.WithPlaintextUntil(time.Now().Add(time.Hour)))
					opts = append(opts, middleware.WithLogger(slog.New(slog.DiscardHandler)))
				}
				s, err := middleware.New(backing, e, opts...)
				require.NoError(t, err)
				require.NoError(t, s.Check(ctx)) // as at the start of an application
				i.deploy(s)
			}
			before := app.ops.Load()
			require.Eventually(t, func() bool { return app.ops.Load() > before+300 }, 2*time.Minute, time.Millisecond)
		}
	}
	deploy := func(policy *middleware.PlaintextPolicy) { deployTo(policy, app.instances...) }
	state := func(p middleware.PlaintextPolicy) *middleware.PlaintextPolicy { return &p }
	for _, i := range app.instances {
		i.deploy(plaintextStore{backing})
	}

	working, stop := context.WithCancel(ctx)
	defer stop()
	var group sync.WaitGroup
	errs := make([]error, len(app.rounds))
	for w := range errs {
		group.Go(func() {
			if errs[w] = app.work(working, w); errs[w] != nil {
				stop()
			}
		})
	}
	// proof is the audit of the text's last step forward, at other times too.
	proof := func(want int) string {
		t.Helper()
		status, out, log := sealcache(t, "audit", "--redis", server.URL(), "--progress", "none",
			"--open", "--namespace", "shop", "--kek", "file://"+filepath.ToSlash(kekFile), "--keyset", keysetFile)
		require.Equal(t, want, status, "%s%s", out, log)
		return out
	}

	// during is by how much the counter of each instance grows while the service is at work for a while.
	during := func(name, attribute, value string) (grown [instances]int64) {
		var begin [instances]int64
		for i, at := range app.instances {
			begin[i] = at.count(t, name, attribute, value)
		}
		before := app.ops.Load()
		require.Eventually(t, func() bool { return app.ops.Load() > before+2000 || working.Err() != nil }, 2*time.Minute, time.Millisecond)
		require.NoError(t, working.Err())
		for i, at := range app.instances {
			grown[i] = at.count(t, name, attribute, value) - begin[i]
		}
		return grown
	}
	plaintext := func(what string) [instances]int64 { return during("sealcache.plaintext", "sealcache.plaintext", what) }
	var none [instances]int64
	// stops is what an operator waits for: calls that the state before had begun may still come to their end.
	stops := func(what string) {
		t.Helper()
		require.Eventually(t, func() bool { return plaintext(what) == none }, 2*time.Minute, time.Millisecond, "%s has not stopped", what)
	}
	goesOn := func(what string, which ...int) {
		t.Helper()
		app.settle(working, t) // a call may still use the store of the state before
		grown := plaintext(what)
		for i := range grown {
			if slices.Contains(which, i) {
				require.Positive(t, grown[i], "%s, instance %d", what, i)
			} else {
				require.Zero(t, grown[i], "%s, instance %d", what, i)
			}
		}
	}

	book.Follow(t, "Before") // audit, dry run
	goesOn("written")        // by none: no user is left to count
	// prepare: every instance shows that it runs it by counting its plaintext writes.
	deployTo(state(middleware.WritePlaintext), app.instances[0])
	goesOn("written", 0)
	deployTo(state(middleware.WritePlaintext), app.instances[1:]...)
	goesOn("written", 0, 1, 2)
	// tolerate: a forgotten instance goes on counting. The migration seals the plaintext that is still read.
	deployTo(state(middleware.SealOnRead), app.instances[:2]...)
	goesOn("written", 2)
	proof(exitLeft)
	deployTo(state(middleware.SealOnRead), app.instances[2])
	stops("written")
	goesOn("written")
	const unread = 2000
	for i := range unread { // of a part that the service does not read every day
		require.NoError(t, rdb.Set(ctx, fmt.Sprintf("shop:rare:%d", i), "rare", 0).Err())
	}
	for _, i := range app.instances {
		before := i.count(t, "sealcache.plaintext", "sealcache.plaintext", "read")
		_, err := (*i.store.Load()).Get(ctx, "rare:1")
		require.NoError(t, err)
		require.NoError(t, rdb.Set(ctx, "shop:rare:1", "rare", 0).Err())
		require.Greater(t, i.count(t, "sealcache.plaintext", "sealcache.plaintext", "read"), before)
	}
	proof(exitLeft)
	book.Follow(t, "Forward") // migrate
	require.Contains(t, book.Follow(t, "Forward"), "Is any value plaintext? NO")
	stops("read")
	goesOn("read")
	// require: the plaintext of a forgotten writer shows.
	deploy(state(middleware.RejectPlaintext))
	proof(exitDone)
	require.Equal(t, none, during("sealcache.operations", "sealcache.outcome", "not_sealed"))
	require.NoError(t, rdb.Set(ctx, "shop:forgotten", "plaintext", time.Hour).Err())
	for _, i := range app.instances {
		_, err := (*i.store.Load()).Get(ctx, "forgotten")
		require.ErrorIs(t, err, middleware.ErrNotSealed)
		require.EqualValues(t, 1, i.count(t, "sealcache.operations", "sealcache.outcome", "not_sealed"))
	}
	proof(exitLeft)
	require.NoError(t, rdb.Del(ctx, "shop:forgotten").Err())
	goesOn("read")
	goesOn("written")

	// The next key, which the text has after the way back, is rotated in at once: back is the end.
	back := book.At
	book.Begin(t, "A new key")
	require.NotContains(t, book.Follow(t, "A new key"), "Destroyed") // add
	both := ids(t, keysetFile)
	require.Len(t, both, 2)
	book.Words["1111111111"], book.Words["2222222222"] = both[0], both[1]
	distribute()
	book.Words["$(date -u +%Y-%m-%dT%H:%M:%SZ)"] = time.Now().Add(-10 * time.Minute).UTC().Format(time.RFC3339) // as if time had passed
	book.Words["--reload 1m"] = "--reload 1ms"                                                                  // the times of the keyset count, too, and they are of now
	promoted := book.Follow(t, "A new key")
	require.Contains(t, promoted, "* "+fmt.Sprintf("%10s", both[1]))
	distribute()
	require.Contains(t, book.Follow(t, "A new key"), " written")
	require.Contains(t, book.Follow(t, "A new key"), "disabled")
	distribute()
	require.Contains(t, book.Follow(t, "A new key"), "destroyed? YES")
	book.Follow(t, "A new key") // destroy
	require.Equal(t, both[1:], ids(t, keysetFile))
	distribute()
	shown := book.Follow(t, "A new key") // evidence
	require.Contains(t, shown, "## Findings\n\nNone.")
	require.Contains(t, shown, "| "+both[0]+" | AesGcmKey |", "the certificate")
	for _, i := range app.instances {
		before := app.ops.Load()
		_, err := (*i.store.Load()).Get(ctx, "old:1")
		require.NoError(t, err)
		require.Eventually(t, func() bool { return app.ops.Load() > before+300 || working.Err() != nil }, 2*time.Minute, time.Millisecond)
	}
	afterKey := book.At

	// And back.
	book.At = back
	deploy(state(middleware.SealOnRead))
	goesOn("written")
	deploy(state(middleware.WritePlaintext))
	goesOn("written", 0, 1, 2)
	require.Contains(t, book.Follow(t, "Back"), "Is any value sealed? NO")
	deploy(nil)
	goesOn("written")
	stop()
	group.Wait()
	require.NoError(t, errors.Join(errs...))

	// Other names, without writers.
	book.At = afterKey
	for i := range 50 {
		require.NoError(t, backing.Set(ctx, fmt.Sprint("user:", i), "x", store.WithTags([]string{"people"})))
	}
	book.Follow(t, "Moving to other names")
	book.End(t)
	require.Zero(t, rdb.Exists(ctx, "user:1", "gocache_tag_people").Val())
	require.EqualValues(t, 50, rdb.SCard(ctx, "gocache_tag_shop:people").Val())
	for i := range 3000 {
		v, ttl, err := backing.GetBytesWithTTL(ctx, fmt.Sprintf("shop:old:%d", i))
		require.NoError(t, err)
		require.Equal(t, fmt.Sprint("old ", i), string(v))
		require.Equal(t, i%2 == 1, ttl > 0)
	}
	require.NoError(t, kek.(*aead.Keyring).Close()) //nolint:forcetypeassert // a file is one
}

// plaintextStore is the application's store before there was sealcache, which put its own prefix before its keys.
type plaintextStore struct{ *redisstore.Store }

func (c plaintextStore) Get(ctx context.Context, key any) (any, error) {
	return c.Store.Get(ctx, "shop:"+key.(string)) //nolint:forcetypeassert // it is one
}

func (c plaintextStore) Set(ctx context.Context, key, value any, opts ...store.Option) error {
	return c.Store.Set(ctx, "shop:"+key.(string), value, opts...) //nolint:forcetypeassert // it is one
}
