package migrate_test

import (
	"context"
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/eko/gocache/lib/v4/store"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/internal/migratetest"
	"github.com/sealcache/sealcache/internal/rediscmd"
	"github.com/sealcache/sealcache/middleware"
	"github.com/sealcache/sealcache/middleware/internal/rediswalk"
	"github.com/sealcache/sealcache/middleware/migrate"
)

// afterDeletions calls do after originals were deleted for the first time.
type afterDeletions struct {
	originals map[string]bool
	digest    string // of dropSource
	do        func()
	done      bool
}

func (*afterDeletions) DialHook(next redis.DialHook) redis.DialHook          { return next }
func (*afterDeletions) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }

func (h *afterDeletions) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		args := cmds[0].Args()
		if args[0] == "eval" && strings.Contains(fmt.Sprint(args[1]), sendsDeletions) {
			h.digest = rediscmd.NewScript(fmt.Sprint(args[1])).Digest
			args = append([]any{args[0], h.digest}, args[2:]...)
		}
		err := next(ctx, cmds)
		deletes := len(args) > 3 && args[1] == h.digest && h.originals[fmt.Sprint(args[3])] &&
			!redis.HasErrorPrefix(cmds[0].Err(), "NOSCRIPT")
		if deletes && !h.done {
			h.done = true
			h.do()
		}
		return err
	}
}

// Copies that arrive after the entry was finished do not bring back what the application has deleted since.
func TestCopiesOfFinishedEntriesThatArriveLate(t *testing.T) {
	t.Parallel()
	newRenaming(t).forgetsLateCopies(t)
}

// The same, if the run seals tags in the copies of plaintext.
func TestTaggedCopiesOfFinishedEntriesThatArriveLate(t *testing.T) {
	t.Parallel()
	r := newRenamingOf(t, func(*middleware.Store, int) error { return nil })
	plain := migratetest.SealedStore(t, r.cluster.Client(t), r.config.Keys, "ns", middleware.WithPlaintext(middleware.WritePlaintext))
	for i := range r.n {
		require.NoError(t, plain.Set(t.Context(), key(i), "v", store.WithTags([]string{"all"})))
	}
	r.config.Operation, r.config.As = migrate.Seal, migrate.AsString
	r.forgetsLateCopies(t)
}

// forgetsLateCopies runs the migration. When originals were deleted for the first time, the application deletes all entries. Copies
// that arrive then must not stay.
func (r *renaming) forgetsLateCopies(t *testing.T) {
	t.Helper()
	held := new(heldCopies)
	held.hold.Store(true)
	rdb, app := r.faulty(t, func(c net.Conn) net.Conn { return &heldConn{Conn: c, held: held} }), r.cluster.Client(t)
	left, late := 0, 0
	h := &afterDeletions{originals: scanned(t, app, "ns:*"), do: func() {
		for name := range scanned(t, app, "ns:*") {
			if err := app.Del(t.Context(), name).Err(); err != nil {
				t.Error(err)
			}
		}
		left = len(scanned(t, app, "ns:*"))
		held.arrive(t)
		late = len(scanned(t, app, "ns:*"))
	}}
	rdb.AddHook(h)
	report, err := migrate.Run(tuned(t.Context(), rediswalk.Tuning{BatchSize: 100, Workers: 1}), rdb, r.config)
	require.NoError(t, err)
	require.True(t, report.Done(), "%+v", report)
	require.True(t, h.done)
	require.Zero(t, left)
	require.Positive(t, late)
	require.Empty(t, scanned(t, app, "ns:*"))
}
