package audit_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/eko/gocache/lib/v4/store"
	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/prf"
	"github.com/tink-crypto/tink-go/v2/tink"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/sealcache/sealcache/internal/migratetest"
	"github.com/sealcache/sealcache/internal/redistest"
	"github.com/sealcache/sealcache/internal/sealtest"
	"github.com/sealcache/sealcache/middleware/audit"
	"github.com/sealcache/sealcache/middleware/internal/asynqwire"
	"github.com/sealcache/sealcache/middleware/jobs"
	"github.com/sealcache/sealcache/middleware/jobs/asynqjobs"
)

// Every value is counted by its form, without keys and with keys.
func TestAuditCounts(t *testing.T) {
	on(t, func(t *testing.T, rdb redis.UniversalClient, ns string) {
		ctx := t.Context()
		first := sealtest.Handle(t)
		ring := sealtest.KeyringOf(t, first)
		both, old, now := sealtest.Rotated(t, first)
		newer := sealtest.KeyringOf(t, both)
		require.NoError(t, migratetest.SealedStore(t, rdb, ring, ns).Set(ctx, "old", "v", store.WithTags([]string{"t"})))
		require.NoError(t, migratetest.SealedStore(t, rdb, newer, ns).Set(ctx, "new", "v"))
		require.NoError(t, migratetest.SealedStore(t, rdb, sealtest.EnvelopeOf(t, ring), ns).Set(ctx, "envelope", bytes.Repeat([]byte("v"), 5000)))
		require.NoError(t, migratetest.SealedStore(t, rdb, sealtest.Keyring(t), ns).Set(ctx, "stranger", "v"))
		require.NoError(t, rdb.Set(ctx, ns+":plaintext", "0123456789", 0).Err())
		require.NoError(t, rdb.Set(ctx, ns+":empty", "", 0).Err())
		require.NoError(t, rdb.Set(ctx, ns+":fernet", "gAAAAAB"+strings.Repeat("a", 93), 0).Err())
		require.NoError(t, rdb.Set(ctx, ns+":foreign", "\xC1\x5C\x09xxxxxxxxxxxxxxxx", 0).Err())
		require.NoError(t, rdb.ZAdd(ctx, ns+":zset", redis.Z{Member: "x"}).Err())

		r := audited(t, rdb, audit.Config{Prefix: ns + ":"})
		require.Equal(t, audit.Amount{Values: 2, Bytes: 10}, r.Total.Plaintext)
		require.EqualValues(t, 4, r.Total.Sealed.Values)
		require.EqualValues(t, 1, r.Total.Fernet.Values)
		require.EqualValues(t, 1, r.Total.UnknownFormat.Values)
		require.Zero(t, r.Total.Unreadable.Values)
		require.Equal(t, map[string]int64{"zset": 1}, r.OtherTypes)
		require.EqualValues(t, 1, use(r, fmt.Sprint("key ", old)))
		require.EqualValues(t, 1, use(r, fmt.Sprint("key ", now)))
		require.EqualValues(t, 1, use(r, fmt.Sprintf("key %d of a KEK", old)))
		require.Empty(t, r.Samples, "names only on request")
		var unopened strings.Builder
		require.NoError(t, r.WriteText(&unopened))
		require.Contains(t, unopened.String(), "no value was opened")

		r = audited(t, rdb, audit.Config{
			Prefix: ns + ":", Keys: []tink.AEADWithContext{newer, sealtest.EnvelopeOf(t, newer)}, Namespaces: []string{ns},
			Samples: 5, GroupBy: []string{ns + ":e", ns + ":"},
		})
		require.EqualValues(t, 1, r.Total.Unreadable.Values)
		require.Equal(t, []string{ns + ":stranger"}, r.Samples["unreadable"])
		require.Len(t, r.Samples["plaintext"], 2)
		require.Len(t, r.Groups, 2)
		require.EqualValues(t, 1, r.Groups[1].Sealed.Values)

		var text bytes.Buffer
		require.NoError(t, r.WriteText(&text))
		require.Contains(t, text.String(), "NOT backups")
		require.NotContains(t, text.String(), "not opened")
		_, err := json.Marshal(r)
		require.NoError(t, err)

		anything, why := r.AnythingPlaintext()
		require.Equal(t, audit.Yes, anything)
		require.NotEmpty(t, why)

		tags := audited(t, rdb, audit.Config{Prefix: "gocache_tag_" + ns + ":"})
		require.EqualValues(t, 1, tags.TagSets)
	})
}

// Groups show no whole names. Names without a namespace, with few entries or with other letters form one group.
func TestAuditGroups(t *testing.T) {
	t.Parallel()
	rdb := redistest.Start(t).Client(t)
	for i := range 20 {
		require.NoError(t, rdb.Set(t.Context(), fmt.Sprintf("shop:%d", i), "v", 0).Err())
		require.NoError(t, rdb.Set(t.Context(), fmt.Sprintf("alice%d@example.com:profile", i), "v", 0).Err())
		require.NoError(t, rdb.Set(t.Context(), fmt.Sprintf("user-%d:profile", i), "v", 0).Err())
		require.NoError(t, rdb.Set(t.Context(), fmt.Sprintf("plain%d", i), "v", 0).Err())
	}
	r := audited(t, rdb, audit.Config{})
	require.Equal(t, []audit.Group{
		{Prefix: "shop:", Tally: audit.Tally{Plaintext: audit.Amount{Values: 20, Bytes: 20}}},
		{Prefix: "(other)", Tally: audit.Tally{Plaintext: audit.Amount{Values: 60, Bytes: 60}}},
	}, r.Groups)
}

// The rate bounds the names, too, that are outside the scope.
func TestRateOfForeignNames(t *testing.T) {
	t.Parallel()
	rdb := redistest.Start(t).Client(t)
	const n, rate = 4000, 500
	fill(t, rdb, "ns", n)
	r := audited(t, rdb, audit.Config{Prefix: "other:", Rate: rate})
	require.Zero(t, r.Seen)
	require.Greater(t, r.Elapsed, time.Second*n/10/rate*8/10, "ten of them count as one")
}

// The audit says that nothing is plaintext only after it has read the whole scope.
func TestAnythingPlaintext(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	rdb := server.Client(t)
	ctx := t.Context()
	answer := func(c audit.Config) audit.Answer { a, _ := audited(t, rdb, c).AnythingPlaintext(); return a }
	require.Equal(t, audit.Unknown, answer(audit.Config{}), "another server would answer so")
	require.NoError(t, migratetest.SealedStore(t, rdb, sealtest.Keyring(t), "").Set(ctx, "k", "v", store.WithTags([]string{"t"})))
	require.Equal(t, audit.No, answer(audit.Config{}), "tag sets hold names")
	require.NoError(t, rdb.HSet(ctx, "hash", "f", "v").Err())
	require.Equal(t, audit.Unknown, answer(audit.Config{}))
	require.Equal(t, audit.No, answer(audit.Config{IgnoreTypes: allTypes}))
	require.NoError(t, rdb.Del(ctx, "hash").Err())
	require.NoError(t, rdb.Set(ctx, "f", "\xC1\x5C\x07aaaaaaa", 0).Err())
	require.Equal(t, audit.Unknown, answer(audit.Config{}))
	require.NoError(t, rdb.Set(ctx, "f", "x", 0).Err())
	require.Equal(t, audit.Yes, answer(audit.Config{}))

	stopped := deadline(t, 0)
	r, err := audit.Run(stopped, rdb, audit.Config{})
	require.Error(t, err)
	require.False(t, r.Complete)
	require.NoError(t, rdb.Del(ctx, "f").Err())
	a, _ := r.AnythingPlaintext()
	require.Equal(t, audit.Unknown, a, "a scan that was stopped saw nothing, which is not the same as none")
}

// Jobs: payloads, results, error texts, unique tasks and schedules, sealed and plaintext, and the keys that they are under.
func TestAuditJobs(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	rdb := server.Client(t)
	ctx := t.Context()
	h := sealtest.Handle(t)
	set, err := keyset.NewHandle(prf.HMACSHA256PRFKeyTemplate())
	require.NoError(t, err)
	prfs, err := prf.NewPRFSet(set)
	require.NoError(t, err)
	e, err := jobs.NewEncryptor(sealtest.KeyringOf(t, h), jobs.WithNamespace("shop"), jobs.WithPRF(prfs))
	require.NoError(t, err)
	plain := asynq.NewClient(asynq.RedisClientOpt{Addr: server.Addr()})
	t.Cleanup(func() { _ = plain.Close() })
	sealed, err := asynqjobs.NewClient(plain, e)
	require.NoError(t, err)

	_, err = sealed.Enqueue(asynq.NewTask("a", []byte("payload")))
	require.NoError(t, err)
	_, err = sealed.Enqueue(asynq.NewTask("u", []byte("payload")), asynq.Unique(time.Hour))
	require.NoError(t, err)
	_, err = sealed.Enqueue(asynq.NewTask("fails", []byte("payload")), asynq.MaxRetry(3), asynq.Retention(time.Hour))
	require.NoError(t, err)
	scheduler, err := asynqjobs.NewScheduler(rdb, sealed)
	require.NoError(t, err)
	_, err = scheduler.ScheduleOnce(ctx, "s", asynqjobs.Every(time.Hour), asynq.NewTask("s", []byte("payload")))
	require.NoError(t, err)

	mux := asynq.NewServeMux()
	mux.HandleFunc("fails", func(ctx context.Context, _ *asynq.Task) error { return errors.New("a secret reason") })
	wrapped, err := asynqjobs.Handler(e, mux)
	require.NoError(t, err)
	config, err := asynqjobs.Config(e, asynq.Config{Concurrency: 1, LogLevel: asynq.FatalLevel, Queues: map[string]int{"failing": 1}})
	require.NoError(t, err)
	_, err = sealed.Enqueue(asynq.NewTask("fails", []byte("payload")), asynq.MaxRetry(3), asynq.Queue("failing"))
	require.NoError(t, err)
	srv := asynq.NewServer(asynq.RedisClientOpt{Addr: server.Addr()}, config)
	require.NoError(t, srv.Start(wrapped))
	require.Eventually(t, func() bool {
		return rdb.ZCard(ctx, "asynq:{failing}:retry").Val() == 1
	}, 2*time.Minute, 20*time.Millisecond)
	srv.Shutdown()

	r := audited(t, rdb, audit.Config{})
	require.EqualValues(t, 4, r.Jobs.Tasks.Values)
	require.EqualValues(t, 4, r.Jobs.Payloads.Sealed.Values, "%+v", r.Jobs)
	require.EqualValues(t, 1, r.Jobs.Errors.Sealed.Values)
	require.EqualValues(t, 1, r.Jobs.Scheduled.Sealed.Values)
	require.Zero(t, r.Jobs.Unparsed)
	id := h.KeysetInfo().GetPrimaryKeyId()
	require.EqualValues(t, 6, use(r, fmt.Sprint("key ", id)))
	answer, why := r.AnythingPlaintext()
	require.Equal(t, audit.No, answer, "%v %+v", why, r)
	may, _ := r.MayDestroy(id, audit.Conditions{})
	require.Equal(t, audit.No, may, "jobs are under it")

	_, err = plain.Enqueue(asynq.NewTask("plaintext", []byte("payload")))
	require.NoError(t, err)
	_, err = plain.Enqueue(asynq.NewTask("nothing", nil))
	require.NoError(t, err)
	r = audited(t, rdb, audit.Config{Samples: 1})
	require.EqualValues(t, 1, r.Jobs.Payloads.Plaintext.Values)
	require.Len(t, r.Samples["jobs in plaintext"], 1)
	answer, _ = r.AnythingPlaintext()
	require.Equal(t, audit.Yes, answer)

	require.NoError(t, rdb.HSet(ctx, "asynq:{q}:t:1", "msg", "\xff\xff\xff").Err())
	r = audited(t, rdb, audit.Config{})
	require.EqualValues(t, 1, r.Jobs.Unparsed)
}

// All that asynq keeps while it runs is known for what it is: queues in every state, groups, locks, schedulers, counters,
// beside a cache. None of it is plaintext.
func TestAuditOfAllThatAsynqKeeps(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	rdb := server.Client(t)
	ctx := t.Context()
	ring := sealtest.Keyring(t)
	set, err := keyset.NewHandle(prf.HMACSHA256PRFKeyTemplate())
	require.NoError(t, err)
	prfs, err := prf.NewPRFSet(set)
	require.NoError(t, err)
	e, err := jobs.NewEncryptor(ring, jobs.WithNamespace("shop"), jobs.WithPRF(prfs))
	require.NoError(t, err)
	require.NoError(t, migratetest.SealedStore(t, rdb, ring, "shop").Set(ctx, "a", "v", store.WithTags([]string{"t"})))
	runAsynq(t, server, rdb, e)

	r := audited(t, rdb, audit.Config{Samples: 10})
	answer, why := r.AnythingPlaintext()
	require.Equal(t, audit.No, answer, "%v %+v\n%s", why, r, asynqNames(t, rdb))
	require.EqualValues(t, 1, r.Total.Sealed.Values, "the cache's")
	require.Positive(t, r.Jobs.Running.Sealed.Values)
	require.GreaterOrEqual(t, r.Jobs.Errors.Sealed.Values, int64(4))
	require.EqualValues(t, 1, r.Jobs.Results.Sealed.Values)
	require.EqualValues(t, 1, r.Jobs.Scheduled.Sealed.Values)
	for _, k := range r.Keys {
		require.Equal(t, fmt.Sprint("key ", ring.Keys()[0].ID), k.Key)
	}
}

// runAsynq runs a worker and two schedulers on tasks in every state, until asynq keeps everything that it can keep.
func runAsynq(t *testing.T, server *redistest.Server, rdb *redis.Client, e *jobs.Encryptor) {
	t.Helper()
	ctx, conn := t.Context(), asynq.RedisClientOpt{Addr: server.Addr()}
	plain := asynq.NewClient(conn)
	t.Cleanup(func() { _ = plain.Close() })
	client, err := asynqjobs.NewClient(plain, e)
	require.NoError(t, err)

	running, release := make(chan struct{}, 10), make(chan struct{})
	mux := asynq.NewServeMux()
	mux.HandleFunc("waits", func(ctx context.Context, _ *asynq.Task) error {
		running <- struct{}{}
		<-release
		return nil
	})
	mux.HandleFunc("fails", func(context.Context, *asynq.Task) error { return errors.New("a secret reason") })
	mux.HandleFunc("skips", func(context.Context, *asynq.Task) error { return fmt.Errorf("secret: %w", asynq.SkipRetry) })
	mux.HandleFunc("panics", func(context.Context, *asynq.Task) error { panic("a secret panic") })
	mux.HandleFunc("returns", func(ctx context.Context, _ *asynq.Task) error { return asynqjobs.WriteResult(ctx, []byte("secret")) })
	handler, err := asynqjobs.Handler(e, mux)
	require.NoError(t, err)
	config, err := asynqjobs.Config(e, asynq.Config{
		Concurrency: 5, LogLevel: asynq.FatalLevel, Queues: map[string]int{"default": 1, "{odd}:q": 1},
		GroupGracePeriod: time.Minute,
		GroupAggregator:  asynq.GroupAggregatorFunc(func(_ string, tasks []*asynq.Task) *asynq.Task { return tasks[0] }),
	}, asynqjobs.WithGroupClient(asynq.NewClientFromRedisClient(rdb)))
	require.NoError(t, err)
	srv := asynq.NewServer(conn, config)
	require.NoError(t, srv.Start(handler))
	t.Cleanup(srv.Shutdown)
	t.Cleanup(func() { close(release) })
	add := func(typename string, opts ...asynq.Option) {
		t.Helper()
		_, err := client.Enqueue(asynq.NewTaskWithHeaders(typename, []byte("a secret payload"), map[string]string{"h": "secret"}), opts...)
		require.NoError(t, err)
	}
	add("waits")
	add("fails", asynq.MaxRetry(5))
	add("fails", asynq.MaxRetry(0), asynq.Queue("{odd}:q"))
	add("skips")
	add("panics", asynq.MaxRetry(5))
	add("returns", asynq.Retention(time.Hour))
	add("unique", asynq.Unique(time.Hour), asynq.ProcessIn(time.Hour), asynq.TaskID("an id"))
	add("grouped", asynq.Group("g:1"))
	add("paused", asynq.Queue("halted"))
	inspector := asynq.NewInspector(conn)
	t.Cleanup(func() { _ = inspector.Close() })
	require.NoError(t, inspector.PauseQueue("halted"))
	scheduler, err := asynqjobs.NewScheduler(rdb, client)
	require.NoError(t, err)
	_, err = scheduler.ScheduleOnce(ctx, "s", asynqjobs.Every(time.Hour), asynq.NewTask("s", []byte("payload")))
	require.NoError(t, err)
	theirs := asynq.NewScheduler(conn, &asynq.SchedulerOpts{LogLevel: asynq.FatalLevel})
	_, err = theirs.Register("@every 1s", asynq.NewTask("empty", nil), asynq.Queue("halted"))
	require.NoError(t, err)
	require.NoError(t, theirs.Start())
	t.Cleanup(theirs.Shutdown)
	<-running
	require.Eventually(t, func() bool {
		all := asynqNames(t, rdb)
		for _, part := range []string{
			":retry", ":archived", ":completed", ":scheduled", ":unique:", ":g:g:1", ":groups", ":paused", ":processed", ":failed", ":active", ":lease",
			"asynq:servers:{", "asynq:workers:{", "asynq:schedulers:{", "asynq:scheduler_history:", "asynq:{{odd}:q}:archived",
		} {
			if !strings.Contains(all, part) {
				return false
			}
		}
		return rdb.ZCard(ctx, "asynq:{default}:retry").Val() == 2
	}, 2*time.Minute, 50*time.Millisecond)
}

func asynqNames(t *testing.T, rdb *redis.Client) string {
	t.Helper()
	return strings.Join(rdb.Keys(t.Context(), "asynq:*").Val(), "\n")
}

// message is a task of asynq as it lies in Redis.
func message(failure string, headers map[string]string) []byte {
	m := protowire.AppendString(protowire.AppendTag(nil, 7, protowire.BytesType), failure)
	for k, v := range headers {
		pair := protowire.AppendString(protowire.AppendTag(nil, 1, protowire.BytesType), k)
		pair = protowire.AppendString(protowire.AppendTag(pair, 2, protowire.BytesType), v)
		m = protowire.AppendBytes(protowire.AppendTag(m, 15, protowire.BytesType), pair)
	}
	return m
}

// Plaintext in jobs is seen wherever it stands: next to what asynq and asynqjobs write themselves, and under names
// that look like theirs.
func TestAuditSeesWhatLooksLikeJobs(t *testing.T) {
	t.Parallel()
	rdb := redistest.Start(t).Client(t)
	ctx := t.Context()
	sealed := "sealcache:sealed:" + base64.RawStdEncoding.EncodeToString([]byte("\xC1\x5C\x01\x04\x01\x00"+strings.Repeat("x", 60)))
	set := func(name, value string) func(p redis.Pipeliner) {
		return func(p redis.Pipeliner) { p.Set(ctx, name, value, 0) }
	}
	failing := func(text string) func(p redis.Pipeliner) {
		return func(p redis.Pipeliner) { p.HSet(ctx, "asynq:{q}:t:1", "msg", message(text, nil)) }
	}
	entry := func(payload string) string {
		return string(protowire.AppendString(protowire.AppendTag(nil, 4, protowire.BytesType), payload))
	}
	for name, c := range map[string]struct {
		put  func(p redis.Pipeliner)
		want audit.Answer
	}{
		"an error after a text of Go's":  {failing("context canceled: user alice@example.com"), audit.Yes},
		"an error after our name":        {failing("sealcache: told alice@example.com"), audit.Yes},
		"an error after asynq's name":    {failing("asynq: password=hunter2"), audit.Yes},
		"an error after a refusal":       {failing(asynqwire.Refusal{Code: asynqwire.Other}.String() + " by alice"), audit.Yes},
		"an error of two lines":          {failing("context canceled\nalice"), audit.Yes},
		"plaintext before a sealed text": {failing("password=hunter2 " + sealed), audit.Yes},
		"a sealed error":                 {failing(sealed), audit.No},
		"a sealed panic":                 {failing("panic error cause by: panic [/src/a.go:17]: " + sealed), audit.No},
		"a panic in plaintext":           {failing("panic error cause by: panic [/src/a.go:17]: alice"), audit.Yes},
		"a panic that is not asynq's":    {failing("panic [alice]: " + sealed), audit.Yes},
		"Go's own text":                  {failing("context deadline exceeded"), audit.No},
		"asynq's own text":               {failing("asynq: task lease expired"), audit.No},
		"a refusal":                      {failing(asynqwire.Refusal{Code: asynqwire.UnknownKey, Key: 17, HasKey: true}.String()), audit.No},
		"a header": {func(p redis.Pipeliner) {
			p.HSet(ctx, "asynq:{q}:t:1", "msg", message("", map[string]string{"authorization": "secret"}))
		}, audit.Yes},
		"a result without a message":     {func(p redis.Pipeliner) { p.HSet(ctx, "asynq:{q}:t:1", "result", "alice") }, audit.Yes},
		"a hash that is not a task":      {func(p redis.Pipeliner) { p.HSet(ctx, "asynq:{q}:t:1", "name", "alice") }, audit.Unknown},
		"a string in place of a task":    {set("asynq:{q}:t:1", "alice"), audit.Yes},
		"a string under asynq's name":    {set("asynq:mine", "alice"), audit.Yes},
		"a string in place of a counter": {set("asynq:{q}:processed", "alice"), audit.Yes},
		"a counter":                      {set("asynq:{q}:processed:2030-01-31", "17"), audit.No},
		"a counter of no day":            {set("asynq:{q}:processed:alice", "17"), audit.Yes},
		"a lock":                         {set("asynq:{q}:unique:t:0123456789abcdef0123456789abcdef", uuid), audit.No},
		"a string in place of a lock":    {set("asynq:{q}:unique:alice", "id"), audit.Yes},
		"a string in place of a server":  {set("asynq:servers:{h:1:x}", "\xff\xff"), audit.Yes},
		"a string in place of a queue":   {set("asynq:{q}:pending", "alice"), audit.Yes},
		"a queue": {func(p redis.Pipeliner) {
			p.LPush(ctx, "asynq:{q}:pending", "id")
			p.HSet(ctx, "asynq:{q}:t:id", "msg", message("", nil))
		}, audit.No},
		"a queue with braces": {func(p redis.Pipeliner) {
			p.LPush(ctx, "asynq:{a}:b}:pending", "id")
			p.HSet(ctx, "asynq:{a}:b}:t:id", "msg", message("", nil))
		}, audit.No},
		"a list of another name":         {func(p redis.Pipeliner) { p.LPush(ctx, "asynq:{q}:mine", "alice") }, audit.Unknown},
		"a string in place of schedules": {set("{sealcache:jobs:shop}:schedules", "alice"), audit.Yes},
		"a string among schedules":       {set("{sealcache:jobs:shop}:mine", "alice"), audit.Yes},
		"a hash of times":                {func(p redis.Pipeliner) { p.HSet(ctx, "{sealcache:jobs:}:ticks", token, "17") }, audit.No},
		"a hash of another name":         {func(p redis.Pipeliner) { p.HSet(ctx, "{sealcache:jobs:shop}:mine", "f", "alice") }, audit.Unknown},
		"one of many payloads of schedulers": {func(p redis.Pipeliner) {
			for range 2500 {
				p.RPush(ctx, "asynq:schedulers:{h:1:x}", entry(""))
			}
			p.RPush(ctx, "asynq:schedulers:{h:1:x}", entry("alice"))
		}, audit.Yes},
	} {
		require.NoError(t, rdb.FlushDB(ctx).Err())
		p := rdb.Pipeline()
		c.put(p)
		_, err := p.Exec(ctx)
		require.NoError(t, err)
		r := audited(t, rdb, audit.Config{})
		answer, why := r.AnythingPlaintext()
		require.Equal(t, c.want, answer, "%s: %v %+v", name, why, r)
	}

	// Sealed values in jobs count under their key, too.
	require.NoError(t, rdb.FlushDB(ctx).Err())
	h := sealtest.Handle(t)
	require.NoError(t, migratetest.SealedStore(t, rdb, sealtest.KeyringOf(t, h), "asynq").Set(ctx, "k", "v"))
	require.EqualValues(t, 1, use(audited(t, rdb, audit.Config{}), fmt.Sprint("key ", h.KeysetInfo().GetPrimaryKeyId())))
}

// A server without CLIENT NO-TOUCH counts reading as use, and the report says so.
func TestReadingCountsAsUse(t *testing.T) {
	t.Parallel()
	rdb := redistest.Start(t).Client(t)
	require.NoError(t, rdb.Set(t.Context(), "a", "v", 0).Err())
	offered := rdb.Do(t.Context(), "client", "no-touch", "off").Err() == nil
	r := audited(t, rdb, audit.Config{})
	require.Equal(t, !offered, r.CountsAsUse)
	var text strings.Builder
	require.NoError(t, r.WriteText(&text))
	require.Equal(t, !offered, strings.Contains(text.String(), "changed the idle times"))
}
