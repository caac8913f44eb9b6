package asynqjobs_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/stretchr/testify/require"
	tinkaead "github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/keyset"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/internal/redistest"
	"github.com/sealcache/sealcache/middleware/audit"
)

// A held member is sealed under its key, inside a task that is sealed under another. The answer to whether the member's key
// may be destroyed must not be yes while there is one.
func TestKeysOfHeldMembersAreNotForgotten(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	m := keyset.NewManager()
	ring := func() *aead.Keyring {
		h, err := m.Handle()
		require.NoError(t, err)
		k, err := aead.NewKeyring(h)
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, k.Close()) })
		return k
	}
	add := func() uint32 {
		id, err := m.Add(tinkaead.AES256GCMKeyTemplate())
		require.NoError(t, err)
		require.NoError(t, m.SetPrimary(id))
		return id
	}
	old := add()
	before := newEncryptor(t, ring())
	add()
	require.NoError(t, m.Disable(old))
	keys := ring()
	after := newEncryptor(t, keys)
	require.NoError(t, m.Enable(old))
	both := newEncryptor(t, ring())

	g := &groupAggregation{t: t, conn: connTo(server.Addr())}
	g.insp, g.plain = asynq.NewInspector(g.conn), asynq.NewClient(g.conn)
	t.Cleanup(func() { _, _ = g.insp.Close(), g.plain.Close() })
	may := func() (audit.Answer, string) {
		r, err := audit.Run(t.Context(), clientOf(t, server), audit.Config{})
		require.NoError(t, err)
		require.Zero(t, r.Jobs.Headers.Plaintext.Values)
		answer, why := r.MayDestroy(old, audit.Conditions{
			Keyset: keys.Keys(), NotPrimarySince: time.Now().Add(-time.Hour), Reload: time.Minute,
		})
		return answer, strings.Join(why, "; ")
	}
	for name, honest := range map[string]int{"next to an honest member": 1, "alone": 0} {
		tasks := append(g.members(before, 2, 10), g.members(after, honest, 10)...)
		answer, _ := may()
		require.Equal(t, audit.No, answer, name)
		for _, info := range g.pendingGroup() {
			require.NoError(t, g.insp.DeleteTask("default", info.ID))
		}
		a, _ := g.aggregator(after)
		out := a.Aggregate("g", tasks)
		require.NotNil(t, out, name)
		_, err := g.plain.Enqueue(out)
		require.NoError(t, err)
		require.Len(t, g.pending()["sealcache:held-member"], 2, name)
		answer, why := may()
		require.Equal(t, audit.Unknown, answer, name)
		require.Contains(t, why, "members of a task group", name)

		stop := serve(t, g.conn, both, asynq.Config{}, asynq.HandlerFunc(func(context.Context, *asynq.Task) error { return nil }))
		eventually(t, "released", patience, func() bool {
			infos, _ := g.insp.ListAggregatingTasks("default", "g")
			return len(infos) == 2 && len(g.pending()) == 0
		})
		stop()
		answer, _ = may()
		require.Equal(t, audit.No, answer, "%s: in their group again", name)
		for _, info := range g.pendingGroup() {
			require.NoError(t, g.insp.DeleteTask("default", info.ID))
		}
		answer, why = may()
		require.Equal(t, audit.Yes, answer, "%s: %s", name, why)
	}
}
