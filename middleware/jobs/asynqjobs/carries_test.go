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
	"github.com/sealcache/sealcache/middleware/jobs/asynqjobs"
)

// Refused members lie sealed under their keys inside of a task that is sealed under another. Who asks whether such a key
// may be destroyed must learn that there are some.
func TestKeysOfCarriedMembersAreNotForgotten(t *testing.T) {
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

	g := &gathering{t: t, conn: asynq.RedisClientOpt{Addr: server.Addr()}}
	g.insp, g.plain = asynq.NewInspector(g.conn), asynq.NewClient(g.conn)
	t.Cleanup(func() { _, _ = g.insp.Close(), g.plain.Close() })
	may := func() (audit.Answer, string) {
		r, err := audit.Run(t.Context(), server.Client(t), audit.Config{})
		require.NoError(t, err)
		require.Zero(t, r.Jobs.Headers.Plaintext.Values)
		answer, why := r.MayDestroy(old, audit.Conditions{
			Keyset: keys.Keys(), NotPrimarySince: time.Now().Add(-time.Hour), Reload: time.Minute,
		})
		return answer, strings.Join(why, "; ")
	}
	for name, c := range map[string]struct {
		opts   []asynqjobs.Option
		honest int
	}{
		"in the task of the group":  {nil, 1},
		"in a task of nothing else": {nil, 0},
		"each in a task of its own": {[]asynqjobs.Option{asynqjobs.WithGroupClient(g.plain)}, 1},
	} {
		tasks := append(g.members(before, 2, 10), g.members(after, c.honest, 10)...)
		answer, _ := may()
		require.Equal(t, audit.No, answer, name)
		for _, info := range g.pendingGroup() {
			require.NoError(t, g.insp.DeleteTask("default", info.ID))
		}
		a, now, _ := g.aggregator(after, c.opts...)
		out := a.Aggregate("g", tasks)
		if out == nil { // put back, as long as there is patience
			*now = now.Add(20 * time.Minute)
			out = a.Aggregate("g", tasks)
		}
		require.NotNil(t, out, name)
		_, err := g.plain.Enqueue(out)
		require.NoError(t, err)
		answer, why := may()
		require.Equal(t, audit.Unknown, answer, name)
		require.Contains(t, why, "EnqueueRefused", name)

		infos, err := g.insp.ListPendingTasks("default")
		require.NoError(t, err)
		n := 0
		for _, info := range infos {
			more, err := newClient(t, g.conn, both).EnqueueRefused(t.Context(), info)
			require.NoError(t, err, name)
			n += more
			task, err := asynqjobs.OpenTask(t.Context(), after, info)
			require.NoError(t, err)
			require.Empty(t, task.Headers(), name)
			require.NoError(t, g.insp.DeleteTask("default", info.ID))
		}
		require.Equal(t, 2, n, name)
		answer, _ = may()
		require.Equal(t, audit.No, answer, "%s: in their group again", name)
		for _, info := range g.pendingGroup() {
			require.NoError(t, g.insp.DeleteTask("default", info.ID))
		}
		answer, why = may()
		require.Equal(t, audit.Yes, answer, "%s: %s", name, why)
	}
}

// The application does not see the header by which a task says that it holds members.
func TestHandlersDoNotSeeThatATaskCarriesMembers(t *testing.T) {
	t.Parallel()
	e, stranger := newEncryptor(t, nil), newEncryptor(t, nil)
	g := newGathering(t)
	tasks := append(g.members(e, 1, 10), g.members(stranger, 1, 10)...)
	a, now, _ := g.aggregator(e)
	out := a.Aggregate("g", tasks)
	if out == nil {
		*now = now.Add(20 * time.Minute)
		out = a.Aggregate("g", tasks)
	}
	require.Equal(t, map[string]string{"sealcache-carries": "1"}, out.Headers())
	seen := make(chan map[string]string, 1)
	h, err := asynqjobs.Handler(e, asynq.HandlerFunc(func(_ context.Context, task *asynq.Task) error {
		seen <- task.Headers()
		return nil
	}), asynqjobs.WithLogger(quiet))
	require.NoError(t, err)
	srv := asynq.NewServer(g.conn, asynq.Config{LogLevel: asynq.FatalLevel})
	require.NoError(t, srv.Start(h))
	t.Cleanup(srv.Shutdown)
	_, err = g.plain.Enqueue(out)
	require.NoError(t, err)
	select {
	case headers := <-seen:
		require.Empty(t, headers)
	case <-time.After(20 * time.Second):
		t.Fatal("the task did not run")
	}
}
