package migrate_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/sealcache/sealcache/internal/migratetest"
	"github.com/sealcache/sealcache/internal/redistest"
	"github.com/sealcache/sealcache/internal/sealtest"
	"github.com/sealcache/sealcache/middleware"
	"github.com/sealcache/sealcache/middleware/audit"
	"github.com/sealcache/sealcache/middleware/migrate"
)

// behind moves a slot so that a scan meets its entries nowhere. The slot leaves the master from when the scan of from has
// begun and the scan of to has ended.
type behind struct {
	t       *testing.T
	cluster *redistest.Cluster
	from    *redistest.Server
	to      *redistest.Server
	slot    int
	passes  int // in how many scans it does so

	away func(ctx context.Context) error // instead of moving the slot
	back func(ctx context.Context) error

	mu       sync.Mutex
	pass     int
	scanned  int           // calls of SCAN to from, in this pass
	ended    chan struct{} // to was scanned, and asked whether it is still the same
	awaiting bool          // that it is asked
	walking  [2]bool       // from and to are scanned: not before it was asked where their slots are
}

func (b *behind) client() *redis.ClusterClient {
	b.ended = make(chan struct{})
	rdb := redis.NewClusterClient(b.cluster.ClientOptions())
	rdb.OnNewNode(func(c *redis.Client) { c.AddHook(&atNode{b, c.Options().Addr}) })
	b.t.Cleanup(func() { _ = rdb.Close() })
	return rdb
}

type atNode struct {
	*behind
	addr string
}

func (h *atNode) DialHook(next redis.DialHook) redis.DialHook { return next }

func (h *atNode) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (h *atNode) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		h.mu.Lock()
		which := 0
		if h.addr == h.to.Addr() {
			which = 1
		}
		if len(cmd.Args()) > 1 && cmd.Args()[1] == "nodes" {
			h.walking[which], h.awaiting = true, h.awaiting && which == 0
		}
		walking := h.walking[which]
		h.mu.Unlock()
		if cmd.Name() == "info" && h.addr == h.to.Addr() {
			err := next(ctx, cmd)
			h.mu.Lock()
			defer h.mu.Unlock()
			if h.awaiting {
				h.awaiting = false
				close(h.ended)
			}
			return err
		}
		scan, ok := cmd.(*redis.ScanCmd)
		if !ok || cmd.Name() != "scan" || !walking || strings.Contains(fmt.Sprint(cmd.Args()...), "gocache_tag_") {
			return next(ctx, cmd)
		}
		if h.addr == h.from.Addr() {
			h.mu.Lock()
			h.scanned++
			move, ended := h.scanned == 2 && h.pass < h.passes, h.ended
			h.mu.Unlock()
			if move {
				<-ended
				if err := h.away(ctx); err != nil {
					h.t.Errorf("away: %v", err)
				}
			}
		}
		err := next(ctx, cmd)
		if _, cursor := scan.Val(); err == nil && cursor == 0 {
			h.mu.Lock()
			defer h.mu.Unlock()
			switch h.addr {
			case h.to.Addr():
				h.awaiting, h.walking[1] = true, false
			case h.from.Addr():
				h.walking[0] = false
				if h.pass < h.passes && h.back != nil {
					if err := h.back(ctx); err != nil {
						h.t.Errorf("back: %v", err)
					}
				}
				h.pass++
				h.scanned, h.ended = 0, make(chan struct{})
			}
		}
		return err
	}
}

// Entries that a scan misses because their slot moves are found later, or the run says that it is not complete. Slots move
// away, move away and back, or are left half moved.
func TestSlotsMoveBehindTheScan(t *testing.T) {
	t.Parallel()
	const batch, always = 50, 100
	cluster := redistest.StartCluster(t)
	admin, ctx := cluster.Client(t), t.Context()
	from, to := cluster.Nodes()[1], cluster.Nodes()[0]
	keys := sealtest.Keyring(t)
	for how, c := range map[string]struct {
		passes     int
		half, back bool
	}{
		"away":           {passes: 1},
		"there and back": {passes: 1, back: true},
		"half moved":     {passes: 1, half: true},
		"all the time":   {passes: always, back: true},
	} {
		for _, sealing := range []bool{false, true} {
			// One after the other: they move the same slots.
			t.Run(fmt.Sprint(how, map[bool]string{true: ", sealed", false: ", audited"}[sealing]), func(t *testing.T) {
				ns := strings.ReplaceAll(fmt.Sprint("slots-", how, sealing), " ", "-")
				app := migratetest.SealedStore(t, admin, keys, ns)
				onFrom := func(i int) bool {
					slot := admin.ClusterKeySlot(ctx, name(ns, i)).Val()
					return slot > 5500 && slot < 10900
				}
				for i := range 3000 {
					if onFrom(i) {
						require.NoError(t, app.Set(ctx, fmt.Sprint("k", i), "sealed"))
					}
				}
				// The one in plaintext is not in the first batch.
				first, _, err := from.Client(t).Scan(ctx, 0, ns+":*", batch).Result()
				require.NoError(t, err)
				last := 2999
				for !onFrom(last) || slices.Contains(first, name(ns, last)) {
					last--
				}
				hidden := name(ns, last)
				require.NoError(t, admin.Set(ctx, hidden, "plaintext", time.Hour).Err())
				slot := int(admin.ClusterKeySlot(ctx, hidden).Val())

				b := &behind{t: t, cluster: cluster, from: from, to: to, slot: slot, passes: c.passes}
				b.away = func(ctx context.Context) error { return cluster.MoveSlots(ctx, to, slot) }
				if c.back {
					b.back = func(ctx context.Context) error { return cluster.MoveSlots(ctx, from, slot) }
				}
				if c.half {
					_, err := cluster.OpenSlot(ctx, to, slot)
					require.NoError(t, err)
					b.away = func(ctx context.Context) error {
						_, err := redistest.MoveKeys(ctx, from, to, slot, 10)
						return err
					}
				}
				rdb := b.client()
				defer func() {
					if c.half {
						require.NoError(t, cluster.MoveSlots(ctx, to, slot))
					}
					require.NoError(t, cluster.MoveSlots(ctx, from, slot))
				}()

				if !sealing {
					r, err := audit.Run(small(ctx, batch), rdb, audit.Config{Prefix: ns + ":"})
					require.Positive(t, r.Restarts)
					require.Positive(t, b.pass)
					answer, why := r.AnythingPlaintext()
					if c.passes == always {
						require.ErrorContains(t, err, "during the scan")
						require.False(t, r.Complete)
						require.Equal(t, audit.Unknown, answer)
						may, _ := r.MayDestroy(1, audit.Conditions{Keyset: keys.Keys(), NotPrimarySince: time.Now().Add(-100 * time.Hour)})
						require.Equal(t, audit.Unknown, may)
						return
					}
					require.NoError(t, err)
					require.True(t, r.Complete)
					require.Equal(t, audit.Yes, answer, why)
					require.EqualValues(t, 1, r.Total.Plaintext.Values, "what an earlier scan counted does not count")
					return
				}
				config := migrate.Config{
					Operation: migrate.Seal, IgnoreUnreadable: true, From: migrate.Space{Namespace: ns}, Keys: keys,
					Checkpoint: filepath.Join(t.TempDir(), "checkpoint"),
				}
				r, err := migratetest.Unproven(small(ctx, batch), rdb, config)
				require.Positive(t, r.Restarts)
				if c.passes == always {
					require.ErrorContains(t, err, "during the scan")
					require.False(t, r.Complete)
					require.FileExists(t, config.Checkpoint)
					require.False(t, isSealed(stored(t, admin, hidden)), "it was out of sight: the test shows something")
					r, err = migratetest.Unproven(ctx, admin, config)
				}
				require.NoError(t, err)
				require.True(t, r.Done(), "%+v", r)
				require.True(t, isSealed(stored(t, admin, hidden)))
				require.InDelta(t, time.Now().Add(time.Hour).UnixMilli(), expiry(t, admin, hidden), 60_000)
			})
		}
	}
}

// A master that restarts after its own scan may hold older data, or none. It is scanned again.
func TestMasterRestartsBehindTheScan(t *testing.T) {
	t.Parallel()
	cluster := redistest.StartCluster(t)
	admin, ctx := cluster.Client(t), t.Context()
	from, to := cluster.Nodes()[1], cluster.Nodes()[0]
	const ns, batch = "behind", 50
	app := migratetest.SealedStore(t, admin, sealtest.Keyring(t), ns)
	hidden := ""
	for i := range 3000 {
		switch slot := admin.ClusterKeySlot(ctx, name(ns, i)).Val(); {
		case slot > 5500 && slot < 10900:
			require.NoError(t, app.Set(ctx, fmt.Sprint("k", i), "sealed"))
		case slot < 5400:
			hidden = name(ns, i)
		}
	}
	b := &behind{t: t, cluster: cluster, from: from, to: to, passes: 1}
	b.away = func(ctx context.Context) error {
		if err := errors.Join(to.Kill(), to.Restart()); err != nil {
			return err
		}
		for end := time.Now().Add(2 * time.Minute); ; {
			if err := admin.Set(ctx, hidden, "plaintext, from an old snapshot", 0).Err(); err == nil || time.Now().After(end) {
				return err
			}
		}
	}
	r, err := audit.Run(small(ctx, batch), b.client(), audit.Config{Prefix: ns + ":"})
	require.NoError(t, err)
	require.Positive(t, r.Restarts)
	answer, why := r.AnythingPlaintext()
	require.Equal(t, audit.Yes, answer, why)
}

// A migration and audits run while slots move back and forth, a master is added and a replica takes over. The application
// is in use. Nothing is lost, and in the end nothing is in plaintext.
func TestSlotsMoveLive(t *testing.T) {
	t.Parallel()
	cluster := redistest.StartCluster(t)
	rdb, ctx := cluster.Client(t), t.Context()
	const ns = "moving"
	n := entriesHere(6000, 100_000)
	a := sealtest.Envelope(t)
	model := live(t, rdb, ns, a, n)
	for i := range model { // MIGRATE takes TTLs along as what is left of them
		if model[i].expires > 0 {
			model[i].expires = 0
		}
	}
	// The audits meet one plaintext value among many, which no process seals.
	other := migratetest.SealedStore(t, rdb, a, "witness")
	for i := range 300 {
		require.NoError(t, other.Set(ctx, fmt.Sprint("k", i), "v"))
	}
	require.NoError(t, rdb.Set(ctx, "witness:k17", "plaintext", 0).Err())

	app := migratetest.SealedStore(t, rdb, a, ns, middleware.WithPlaintext(middleware.SealOnRead))
	config := migrate.Config{
		Operation: migrate.Seal, From: migrate.Space{Namespace: ns}, Keys: a, Rate: float64(n),
		Checkpoint: filepath.Join(t.TempDir(), "checkpoint"),
	}
	added := cluster.AddMaster(t)
	ops := under(t, app, rdb, ns, model, func() {
		moving, stop := context.WithCancel(ctx)
		defer stop()
		var group sync.WaitGroup
		var moved atomic.Int64
		group.Go(func() {
			random := rand.New(rand.NewPCG(3, 4))
			nodes := cluster.Nodes()
			for moving.Err() == nil {
				slot := int(rdb.ClusterKeySlot(ctx, name(ns, random.IntN(n))).Val())
				if random.IntN(10) == 0 {
					slot = int(rdb.ClusterKeySlot(ctx, "witness:k17").Val())
				}
				if err := cluster.MoveSlots(ctx, nodes[random.IntN(len(nodes))], slot); err != nil {
					t.Errorf("move: %v", err)
					return
				}
				moved.Add(1)
			}
		})
		for i := 0; i < 3 || moved.Load() <= 20 && !t.Failed(); i++ {
			short, cancel := context.WithTimeout(ctx, 4*time.Second)
			r, err := migratetest.Unproven(short, rdb, config)
			cancel()
			if err == nil {
				require.True(t, r.Complete)
			} else {
				require.False(t, r.Complete)
			}
			short, cancel = context.WithTimeout(ctx, 2*time.Second)
			report, _ := audit.Run(small(short, 10), rdb, audit.Config{Prefix: "witness:"})
			cancel()
			answer, _ := report.AnythingPlaintext()
			require.NotEqual(t, audit.No, answer, "what is in plaintext moved out of sight")
		}
		stop()
		group.Wait()
		require.Greater(t, moved.Load(), int64(20))
		require.Equal(t, "plaintext", string(stored(t, rdb, "witness:k17")), "no slot was lost")
		answer, why := audited(t, rdb, audit.Config{Prefix: "witness:"}).AnythingPlaintext()
		require.Equal(t, audit.Yes, answer, why)

		// A replica takes over in the middle.
		replica := cluster.StartReplica(t, 0)
		errs := make(chan error, 1)
		time.AfterFunc(200*time.Millisecond, func() { errs <- cluster.Promote(ctx, replica) })
		r, err := migratetest.Unproven(ctx, rdb, config)
		require.NoError(t, <-errs)
		require.NoError(t, err)
		require.True(t, r.Done(), "%+v", r)
		t.Logf("%d slots moved; %d entries seen, %d restarts, %d runs", moved.Load(), r.Seen, r.Restarts, r.Runs)
	})
	require.Positive(t, ops)
	require.Positive(t, added.Client(t).DBSize(ctx).Val())
	matches(t, rdb, migratetest.SealedStore(t, rdb, a, ns), ns, model)
	report := audited(t, rdb, audit.Config{Prefix: ns + ":", IgnoreTypes: allTypes, Keys: []tink.AEADWithContext{a}, Namespaces: []string{ns}})
	answer, why := report.AnythingPlaintext()
	require.Equal(t, audit.No, answer, why)
	require.Zero(t, report.Total.Unreadable.Values)
}

// replicas makes masters say for some time that they are replicas.
type replicas struct{ times *atomic.Int64 }

func (replicas) DialHook(next redis.DialHook) redis.DialHook { return next }

func (replicas) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (r replicas) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		err := next(ctx, cmd)
		if info, ok := cmd.(*redis.StringCmd); ok && cmd.Name() == "info" && r.times.Add(-1) >= 0 {
			info.SetVal(strings.Replace(info.Val(), "role:master", "role:slave", 1))
		}
		return err
	}
}

// A replica that has just taken over does not end a run, also if it happens when a run begins.
func TestBeginsDuringAFailover(t *testing.T) {
	t.Parallel()
	rdb := redis.NewClusterClient(shared.Cluster.ClientOptions())
	t.Cleanup(func() { _ = rdb.Close() })
	var times atomic.Int64
	rdb.OnNewNode(func(c *redis.Client) { c.AddHook(replicas{&times}) })
	const ns = "during-a-failover"
	fill(t, rdb, ns, 100)
	times.Store(10)
	r := run(t, rdb, migrate.Config{Operation: migrate.Seal, From: migrate.Space{Namespace: ns}, Keys: sealtest.Keyring(t)})
	require.Negative(t, times.Load())
	require.EqualValues(t, 100, r.Written)
}

// A master that dies during the scan is replaced by its replica, whose entries are scanned.
func TestMasterOfAClusterDies(t *testing.T) {
	t.Parallel()
	cluster := redistest.StartCluster(t, "--cluster-node-timeout", "1500")
	rdb, ctx := cluster.Client(t), t.Context()
	const ns, n = "dying", 4000
	fill(t, rdb, ns, n)
	cluster.StartReplica(t, 1)
	keys := sealtest.Keyring(t)
	errs := make(chan error, 1)
	control := new(migrate.Control)
	kill := sync.OnceFunc(func() {
		errs <- cluster.Nodes()[1].Kill()
		control.SetRate(0)
	})
	r, err := migratetest.Unproven(small(ctx, 20), rdb, migrate.Config{Operation: migrate.Seal, From: migrate.Space{Namespace: ns}, Keys: keys, IgnoreUnreadable: true, Rate: n / 16, Control: control, Progress: func(p migrate.Progress) {
		if p.Seen > n/8 {
			kill()
		}
	}})
	require.NoError(t, errors.Join(<-errs, err))
	require.True(t, r.Complete, "%+v", r)
	require.Positive(t, r.Restarts)
	require.Zero(t, audited(t, rdb, audit.Config{Prefix: ns + ":"}).Total.Plaintext.Values)
}
