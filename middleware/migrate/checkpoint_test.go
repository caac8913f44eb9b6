package migrate_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/internal/migratetest"
	"github.com/sealcache/sealcache/internal/redistest"
	"github.com/sealcache/sealcache/internal/sealtest"
	"github.com/sealcache/sealcache/middleware/internal/rediswalk"
	"github.com/sealcache/sealcache/middleware/migrate"
)

// interrupted is a run that is stopped by its context when about half is done.
func interrupted(t *testing.T, rdb redis.UniversalClient, c migrate.Config, n int64) *migrate.Report {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	c.Rate = float64(n) / 2 // the second half takes a second
	c.Progress = func(p migrate.Progress) {
		if p.Seen > n/2 {
			cancel()
		}
	}
	r, err := migratetest.Unproven(tuned(ctx, rediswalk.Tuning{BatchSize: 20, ProgressEvery: time.Millisecond}), rdb, c)
	require.ErrorIs(t, err, context.Canceled)
	require.False(t, r.Complete)
	require.Greater(t, r.Seen, n/3)
	return r
}

// A resumed run goes on where the first one stopped, and does not look at everything again.
func TestResume(t *testing.T) {
	on(t, func(t *testing.T, rdb redis.UniversalClient, ns string) {
		const n = 1200
		fill(t, rdb, ns, n)
		c := migrate.Config{
			Operation: migrate.Seal, From: migrate.Space{Namespace: ns}, Keys: sealtest.Keyring(t),
			Checkpoint: filepath.Join(t.TempDir(), "checkpoint"),
		}
		first := interrupted(t, rdb, c, n)
		data, err := os.ReadFile(c.Checkpoint)
		require.NoError(t, err)
		require.NotContains(t, string(data), ns, "it holds no names")
		r := run(t, rdb, c)
		require.Equal(t, 2, r.Runs)
		require.True(t, r.Done())
		require.InDelta(t, n, float64(r.Written+r.AlreadyDone), 0.1*n)
		require.Less(t, r.Seen-first.Seen, int64(n*3/4), "the second run did the rest only")
		require.NoFileExists(t, c.Checkpoint)
	})
}

// Two runs do not use one checkpoint at a time. The lock of a run that was killed does not stop the next one.
func TestTwoRunsWithOneCheckpoint(t *testing.T) {
	t.Parallel()
	rdb := redistest.Start(t).Client(t)
	fill(t, rdb, "ns", 100)
	c := migrate.Config{
		Operation: migrate.Seal, From: migrate.Space{Namespace: "ns"}, Keys: sealtest.Keyring(t),
		Checkpoint: filepath.Join(t.TempDir(), "checkpoint"), Control: new(migrate.Control),
	}
	require.NoError(t, os.WriteFile(c.Checkpoint+".lock", nil, 0o600))
	c.Control.Pause()
	began, ended := make(chan struct{}), make(chan error, 1)
	first, once := c, sync.Once{}
	first.Progress = func(p migrate.Progress) {
		if len(p.Paused) > 0 {
			once.Do(func() { close(began) })
		}
	}
	go func() {
		_, err := migratetest.Unproven(t.Context(), rdb, first)
		ended <- err
	}()
	<-began
	second := c
	second.Control = nil
	r, err := migratetest.Unproven(t.Context(), rdb, second)
	require.ErrorIs(t, err, migrate.ErrCheckpoint)
	require.ErrorContains(t, err, "another run uses it now")
	require.Zero(t, r.Runs)
	c.Control.Resume()
	require.NoError(t, <-ended)
	r, err = migratetest.Unproven(t.Context(), rdb, second)
	require.NoError(t, err)
	require.EqualValues(t, 100, r.AlreadyDone)
	require.NoFileExists(t, c.Checkpoint+".lock")
}

// A checkpoint that cannot be written is one error. It names the file that the caller gave, and the remedy.
func TestUnwritableCheckpoint(t *testing.T) {
	t.Parallel()
	rdb := redistest.Start(t).Client(t)
	fill(t, rdb, "ns", 600)
	dir := filepath.Join(t.TempDir(), "dir")
	require.NoError(t, os.Mkdir(dir, 0o700))
	c := migrate.Config{
		Operation: migrate.Seal, From: migrate.Space{Namespace: "ns"}, Keys: sealtest.Keyring(t), Rate: 100,
		Checkpoint: filepath.Join(dir, "checkpoint"),
	}
	c.Progress = func(p migrate.Progress) {
		if p.Written > 0 {
			_ = os.RemoveAll(dir)
		}
	}
	ctx := tuned(t.Context(), rediswalk.Tuning{BatchSize: 20, ProgressEvery: time.Millisecond, CheckpointEvery: time.Millisecond})
	r, err := migratetest.Unproven(ctx, rdb, c)
	const text = `^migrate: cannot write the checkpoint file: (open|rename) %s: no such file or directory \(free space or correct its path, and repeat the run\)$`
	require.Regexp(t, fmt.Sprintf(text, regexp.QuoteMeta(c.Checkpoint)), err)
	require.Equal(t, err.Error(), r.Error)
	require.False(t, r.Complete)
}

// The cursors of a server mean nothing to the next process of that server.
func TestResumeAfterRestartOfRedis(t *testing.T) {
	t.Parallel()
	server := redistest.StartWith(t, redistest.Options{AppendOnly: true})
	rdb := server.Client(t)
	const n = 1000
	fill(t, rdb, "ns", n)
	a := sealtest.Keyring(t)
	c := migrate.Config{
		Operation: migrate.Seal, From: migrate.Space{Namespace: "ns"}, Keys: a,
		Checkpoint: filepath.Join(t.TempDir(), "checkpoint"),
	}
	first := interrupted(t, rdb, c, n)
	require.NoError(t, server.Restart())
	r := run(t, rdb, c)
	require.True(t, r.Done())
	require.Positive(t, first.Written)
	require.EqualValues(t, n, r.Seen, "all was looked at again, and each entry counts once")
	require.EqualValues(t, n, r.Written)
	require.Zero(t, r.AlreadyDone)
	for i := range n {
		require.True(t, isSealed(stored(t, rdb, name("ns", i))))
	}
}

// A server that restarts during the scan is scanned again, and one that is away for a moment is waited for.
func TestRestartDuringTheScan(t *testing.T) {
	t.Parallel()
	server := redistest.StartWith(t, redistest.Options{AppendOnly: true})
	rdb := server.Client(t)
	const n = 2000
	fill(t, rdb, "ns", n)
	var once atomic.Bool
	failed, control := make(chan error, 1), new(migrate.Control)
	r, err := migratetest.Unproven(tuned(t.Context(), rediswalk.Tuning{BatchSize: 20, ProgressEvery: time.Millisecond}), rdb, migrate.Config{
		Operation: migrate.Seal, From: migrate.Space{Namespace: "ns"}, Keys: sealtest.Keyring(t), Rate: n / 8, Control: control, // not at its end before the server restarts
		Progress: func(p migrate.Progress) {
			if p.Seen > n/3 && once.CompareAndSwap(false, true) {
				failed <- errors.Join(server.Kill(), server.Restart())
				control.SetRate(0)
			}
		},
	})
	require.NoError(t, err)
	require.NoError(t, <-failed)
	require.Equal(t, 1, r.Restarts)
	require.True(t, r.Done(), "%+v", r)
	for i := range n {
		require.True(t, isSealed(stored(t, rdb, name("ns", i))))
	}
}

// A replica takes over in the middle. It may not have all that was written: everything is scanned again, there.
func TestFailoverDuringTheScan(t *testing.T) {
	t.Parallel()
	sentinel := redistest.StartSentinel(t)
	rdb := sentinel.Client(t)
	const n = 2000
	fill(t, rdb, "ns", n)
	half, done := make(chan struct{}), make(chan struct{})
	var once sync.Once
	control := new(migrate.Control)
	go func() {
		defer close(done)
		<-half
		sentinel.Failover(t)
		control.SetRate(0)
	}()
	a := sealtest.Keyring(t)
	r, err := migratetest.Unproven(tuned(t.Context(), rediswalk.Tuning{BatchSize: 20, ProgressEvery: time.Millisecond}), rdb, migrate.Config{
		Operation: migrate.Seal, From: migrate.Space{Namespace: "ns"}, Keys: a, Rate: n / 60, Control: control, // not at its end before the failover
		Progress: func(p migrate.Progress) {
			if p.Seen > n/40 || p.Final {
				once.Do(func() { close(half) })
			}
		},
	})
	<-done
	require.NoError(t, err)
	require.GreaterOrEqual(t, r.Restarts, 1)
	require.True(t, r.Done(), "%+v", r)
	for i := range n {
		require.True(t, isSealed(stored(t, rdb, name("ns", i))))
	}
}

// A file that is not a checkpoint of this job is refused, and nothing is done.
func TestCheckpointOfAnotherJob(t *testing.T) {
	t.Parallel()
	rdb := shared.Single.Client(t)
	ns := t.Name()
	const n = 300
	fill(t, rdb, ns, n)
	a := sealtest.Keyring(t)
	c := migrate.Config{
		Operation: migrate.Seal, From: migrate.Space{Namespace: ns}, Keys: a,
		Checkpoint: filepath.Join(t.TempDir(), "checkpoint"),
	}
	interrupted(t, rdb, c, n)
	good, err := os.ReadFile(c.Checkpoint)
	require.NoError(t, err)
	other := c
	other.From.Prefix = "k"
	for what, c := range map[string]migrate.Config{
		"another scope":     other,
		"another operation": {Operation: migrate.Reseal, From: c.From, Keys: a, Checkpoint: c.Checkpoint},
		"another key":       {Operation: migrate.Seal, From: c.From, Keys: sealtest.Keyring(t), Checkpoint: c.Checkpoint},
	} {
		r, err := migratetest.Unproven(t.Context(), rdb, c)
		require.ErrorIs(t, err, migrate.ErrCheckpoint, what)
		require.Zero(t, r.Written)
	}
	for _, bad := range []string{"", "{", "null x", `{"format":1}`, `{"format":3}`, strings.Replace(string(good), `"sealed":"`, `"sealed":"AAAA`, 1), string(good[:60]) + "A" + string(good[61:]), `{"unknown":1}`, string(good[:len(good)/2])} {
		require.NoError(t, os.WriteFile(c.Checkpoint, []byte(bad), 0o600))
		_, err := migratetest.Unproven(t.Context(), rdb, c)
		require.ErrorIs(t, err, migrate.ErrCheckpoint, bad)
		after, err := os.ReadFile(c.Checkpoint)
		require.NoError(t, err)
		require.Equal(t, bad, string(after), "the file is kept")
	}
	c.Checkpoint = filepath.Join(t.TempDir(), "no such directory", "checkpoint")
	_, err = migratetest.Unproven(t.Context(), rdb, c)
	require.ErrorIs(t, err, os.ErrNotExist)
	require.True(t, json.Valid(good))
}

// The keys of a key service have no ids. A checkpoint belongs to the keys that open its content.
func TestCheckpointOfOtherKeys(t *testing.T) {
	t.Parallel()
	rdb := shared.Single.Client(t)
	ns := t.Name()
	service := func(start string) nameless { return nameless{KEK: sealtest.Keyring(t), Start: start} }
	former, ours, another := service("kms:"), service("kms:"), service("kms:")
	const n = 600
	app := migratetest.SealedStore(t, rdb, sealtest.EnvelopeOf(t, former), ns)
	for i := range n {
		require.NoError(t, app.Set(t.Context(), fmt.Sprint("k", i), "v"))
	}
	c := migrate.Config{
		Operation: migrate.Reseal, From: migrate.Space{Namespace: ns}, Keys: sealtest.EnvelopeOf(t, ours), OldKeys: sealtest.EnvelopeOf(t, former),
		Checkpoint: filepath.Join(t.TempDir(), "checkpoint"),
	}
	interrupted(t, rdb, c, n)
	for what, other := range map[string]migrate.Config{
		"keys":     {Keys: sealtest.EnvelopeOf(t, another), OldKeys: c.OldKeys},
		"old keys": {Keys: c.Keys, OldKeys: sealtest.EnvelopeOf(t, another)},
	} {
		other.Operation, other.From, other.Checkpoint = c.Operation, c.From, c.Checkpoint
		_, err := migratetest.Unproven(t.Context(), rdb, other)
		require.ErrorIs(t, err, migrate.ErrCheckpoint, what)
	}
	c.Keys, c.OldKeys = sealtest.EnvelopeOf(t, ours), sealtest.EnvelopeOf(t, former) // another process
	r := run(t, rdb, c)
	require.True(t, r.Done())
	for i := range n {
		require.Equal(t, "v", value(t, migratetest.SealedStore(t, rdb, c.Keys, ns), fmt.Sprint("k", i)))
	}

	// Vault shows when it has rotated its key.
	vault := sealtest.Keyring(t)
	c.Keys, c.OldKeys = sealtest.EnvelopeOf(t, nameless{KEK: vault, Start: "vault:v1:"}), sealtest.EnvelopeOf(t, ours)
	interrupted(t, rdb, c, n)
	c.Keys = sealtest.EnvelopeOf(t, either{nameless{KEK: vault, Start: "vault:v2:"}, nameless{KEK: vault, Start: "vault:v1:"}})
	_, err := migratetest.Unproven(t.Context(), rdb, c)
	require.ErrorIs(t, err, migrate.ErrCheckpoint)
	require.ErrorContains(t, err, "rotated")
}

// either seals under the first, and opens what either has sealed.
type either struct{ nameless, old nameless }

func (e either) EncryptWithContext(ctx context.Context, plaintext, ad []byte) ([]byte, error) {
	return e.nameless.EncryptWithContext(ctx, plaintext, ad)
}

func (e either) DecryptWithContext(ctx context.Context, ct, ad []byte) ([]byte, error) {
	if b, err := e.nameless.DecryptWithContext(ctx, ct, ad); err == nil {
		return b, nil
	}
	return e.old.DecryptWithContext(ctx, ct, ad)
}

// Where keys have no ids, a run knows the data keys that it sealed under, and so does the one that resumes it.
func TestResealUnderAKeyService(t *testing.T) {
	t.Parallel()
	rdb := shared.Single.Client(t)
	ns := t.Name()
	kek := nameless{KEK: sealtest.Keyring(t), Start: "kms:"}
	const n = 600
	app := migratetest.SealedStore(t, rdb, sealtest.EnvelopeOf(t, kek), ns)
	for i := range n {
		require.NoError(t, app.Set(t.Context(), fmt.Sprint(i), "v"))
	}
	c := migrate.Config{
		Operation: migrate.Reseal, From: migrate.Space{Namespace: ns}, Keys: sealtest.EnvelopeOf(t, kek),
		Checkpoint: filepath.Join(t.TempDir(), "checkpoint"),
	}
	first := interrupted(t, rdb, c, n)
	c.Keys = sealtest.EnvelopeOf(t, kek) // another process: another data key
	r := run(t, rdb, c)
	require.EqualValues(t, n, r.Written, "each once: the second run knew the data key of the first")
	require.Less(t, first.Written, int64(n))
	c.Keys = sealtest.EnvelopeOf(t, kek)
	r = run(t, rdb, c)
	require.EqualValues(t, n, r.Written, "a new job reseals all: nothing tells the present key from an older one")
}
