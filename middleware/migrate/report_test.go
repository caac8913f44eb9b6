package migrate_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/testkeyset"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/aead/insecurecleartextkeyset"
	"github.com/sealcache/sealcache/internal/migratetest"
	"github.com/sealcache/sealcache/internal/redistest"
	"github.com/sealcache/sealcache/internal/sealtest"
	"github.com/sealcache/sealcache/middleware/internal/rediswalk"
	"github.com/sealcache/sealcache/middleware/migrate"
)

func text(t *testing.T, r *migrate.Report) string {
	t.Helper()
	var b strings.Builder
	require.NoError(t, r.WriteText(&b))
	return b.String()
}

// A run that found no name has done nothing, and does not look as if it had. An empty database is another matter.
func TestNothingFound(t *testing.T) {
	on(t, func(t *testing.T, rdb redis.UniversalClient, ns string) {
		r := run(t, rdb, migrate.Config{Operation: migrate.Seal, From: migrate.Space{Namespace: ns}, Keys: sealtest.Keyring(t)})
		require.True(t, r.Complete)
		require.True(t, r.FoundNothing())
		require.False(t, r.Done())
		require.Contains(t, text(t, r), "NO NAME WAS FOUND")
		require.True(t, (&migrate.Report{Complete: true}).Done(), "of a whole database")
	})
}

// The JSON form of a report has the members that programs read.
func TestReportAsJSON(t *testing.T) {
	t.Parallel()
	rdb := shared.Single.Client(t)
	ns := t.Name()
	require.NoError(t, rdb.Set(t.Context(), ns+":k", "v", 0).Err())
	config := migrate.Config{Operation: migrate.Reseal, From: migrate.Space{Namespace: ns}, Keys: sealtest.Keyring(t)}
	fields := func(r *migrate.Report) (m map[string]any) {
		for _, v := range []any{r, *r} {
			m = nil
			data, err := json.Marshal(v)
			require.NoError(t, err)
			require.NoError(t, json.Unmarshal(data, &m))
		}
		return m
	}
	m := fields(run(t, rdb, config))
	require.EqualValues(t, 1, m["schema"])
	require.EqualValues(t, 1, m["not_changed"])
	require.EqualValues(t, 1, m["plaintext"])
	require.Equal(t, false, m["done"])
	require.Equal(t, true, m["complete"])
	require.NotContains(t, m, "error")
	config.Checkpoint = filepath.Join(t.TempDir(), "missing", "checkpoint")
	r, err := migratetest.Unproven(t.Context(), rdb, config)
	require.Error(t, err)
	m = fields(r)
	require.Equal(t, err.Error(), m["error"])
	require.Equal(t, false, m["done"])
}

// The JSON forms of a report and an inventory tell names apart that differ in one invalid byte.
func TestNamesInReportAsJSON(t *testing.T) {
	t.Parallel()
	rdb := redistest.Start(t).Client(t)
	fields := func(v any) (m map[string]any) {
		data, err := json.Marshal(v)
		require.NoError(t, err)
		require.NoError(t, json.Unmarshal(data, &m))
		return m
	}
	all := []string{"\"\\xff\"", "\"a", "a\xfe", "a\xff", "plain"}
	var unmatched []string
	for _, name := range all {
		require.NoError(t, rdb.Set(t.Context(), name, "v", 0).Err())
		unmatched = append(unmatched, name+":none")
	}
	i, err := migrate.Plan(t.Context(), rdb, migrate.PlanConfig{Exclude: unmatched, Largest: len(all)})
	require.NoError(t, err)
	m := fields(i)
	require.ElementsMatch(t, unmatched, migratetest.ReportedNames(t, m["unmatched_excludes"]))
	var largest []string
	for _, v := range m["largest"].([]any) {
		largest = append(largest, migratetest.ReportedName(t, v.(map[string]any)["name"]))
	}
	require.ElementsMatch(t, all, largest)
	for _, v := range i.Largest {
		require.Contains(t, all, v.Name)
	}
	i.Groups[0].Prefix = "a\xff"
	require.Equal(t, "a\xff", migratetest.ReportedName(t, fields(*i)["groups"].([]any)[0].(map[string]any)["prefix"]))
	require.Equal(t, "a\xff", i.Groups[0].Prefix)
	for _, name := range all {
		i, err = migrate.Plan(t.Context(), rdb, migrate.PlanConfig{From: migrate.Space{Prefix: name}})
		require.NoError(t, err)
		require.Equal(t, name, migratetest.ReportedName(t, fields(i)["from"]))
		r := run(t, rdb, migrate.Config{
			Operation: migrate.Seal, From: migrate.Space{Prefix: name}, To: &migrate.Space{Prefix: name + "\xfd"},
			Keys: sealtest.Keyring(t), Exclude: []string{name + ":none"}, DryRun: true,
		})
		m = fields(r)
		require.Equal(t, name, migratetest.ReportedName(t, m["from"]))
		require.Equal(t, name+"\xfd", migratetest.ReportedName(t, m["to"]))
		require.Equal(t, []string{name + ":none"}, migratetest.ReportedNames(t, m["unmatched_excludes"]))
		require.Equal(t, name, r.From)
	}
}

// A primary key that changes during a run of Reseal leaves entries under the one of before.
func TestPrimaryChangesDuringReseal(t *testing.T) {
	t.Parallel()
	rdb, ns := shared.Single.Client(t), t.Name()
	first := sealtest.Handle(t)
	both, _, _ := sealtest.Rotated(t, first)
	later, _, _ := sealtest.Rotated(t, both)
	for _, how := range []string{"keyring", "envelope"} {
		path := filepath.Join(t.TempDir(), "keyset.json")
		save := func(h *keyset.Handle) error {
			var b bytes.Buffer
			if err := testkeyset.Write(h, keyset.NewJSONWriter(&b)); err != nil {
				return err
			}
			return os.WriteFile(path, b.Bytes(), 0o600)
		}
		require.NoError(t, save(both))
		k, err := insecurecleartextkeyset.OpenKeyring(t.Context(), aead.FileSource(path))
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, k.Close()) })
		old := migratetest.SealedStore(t, rdb, sealtest.KeyringOf(t, first), ns+how)
		config := migrate.Config{Operation: migrate.Reseal, From: migrate.Space{Namespace: ns + how}, Keys: k}
		if how == "envelope" {
			old, config.Keys = migratetest.SealedStore(t, rdb, sealtest.EnvelopeOf(t, sealtest.KeyringOf(t, first)), ns+how), sealtest.EnvelopeOf(t, k)
		}
		for i := range 100 {
			require.NoError(t, old.Set(t.Context(), fmt.Sprint("k", i), "v"))
		}
		reloaded := false
		config.Rate = 15
		config.Progress = func(p migrate.Progress) {
			if p.Written > 0 && !reloaded {
				reloaded = true
				if err := errors.Join(save(later), k.Reload(context.Background())); err != nil {
					t.Error(err)
				}
			}
		}
		r := runBy(tuned(t.Context(), rediswalk.Tuning{BatchSize: 10, ProgressEvery: 10 * time.Millisecond}), t, rdb, config)
		require.True(t, reloaded)
		require.True(t, r.PrimaryChanged, how)
		require.False(t, r.Done(), how)
		require.Contains(t, text(t, r), "PRIMARY KEY CHANGED")
		config.Progress, config.Rate = nil, 0
		r = run(t, rdb, config)
		require.True(t, r.Done(), "%s: %+v", how, r)
		require.Positive(t, r.Written)
	}
}

// A Redis that has too little memory for what is sealed evicts entries. The dry run warns, and the run says so.
func TestEvictions(t *testing.T) {
	t.Parallel()
	server := redistest.StartWith(t, redistest.Options{Args: []string{"--maxmemory-policy", "allkeys-random"}})
	rdb, ctx := server.Client(t), t.Context()
	const n = 20_000
	pipe := rdb.Pipeline()
	for i := range n {
		pipe.Set(ctx, fmt.Sprint("k", i), "small", 0)
	}
	_, err := pipe.Exec(ctx)
	require.NoError(t, err)
	config := migrate.Config{Operation: migrate.Seal, Keys: sealtest.Envelope(t), DryRun: true}
	r := run(t, rdb, config)
	require.Empty(t, r.Warnings, "there is no bound")
	require.Equal(t, r.BytesWritten-r.BytesRead, r.Growth)
	var used int64
	info := rdb.Info(ctx, "memory").Val()
	_, rest, _ := strings.Cut(info, "used_memory:")
	_, err = fmt.Sscan(rest, &used)
	require.NoError(t, err)
	require.NoError(t, rdb.ConfigSet(ctx, "maxmemory", fmt.Sprint(used+1<<20)).Err())
	r = run(t, rdb, config)
	require.Len(t, r.Warnings, 1)
	require.Contains(t, text(t, r), "WARNING: a master needs")
	require.Zero(t, r.Evicted)
	config.DryRun = false
	r, err = migratetest.Unproven(ctx, rdb, config)
	require.ErrorIs(t, err, migrate.ErrMemory, "the run stops before Redis has evicted everything")
	require.False(t, r.Complete)
	require.Positive(t, rdb.DBSize(ctx).Val())
	config.AllowEviction = true
	r = run(t, rdb, config)
	require.Positive(t, r.Evicted)
	require.Contains(t, text(t, r), "evicted")
}

// Unseal under new names needs memory as every move does. In place it frees some, and goes on.
func TestUnsealAtTheEndOfMemory(t *testing.T) {
	t.Parallel()
	rdb, ctx := redistest.StartWith(t, redistest.Options{Args: []string{"--maxmemory-policy", "allkeys-random"}}).Client(t), t.Context()
	a := sealtest.Envelope(t)
	s := migratetest.SealedStore(t, rdb, a, "ns")
	for i := range 100 {
		require.NoError(t, s.Set(ctx, fmt.Sprint("k", i), strings.Repeat("v", 30_000)))
	}
	var used int64
	_, rest, _ := strings.Cut(rdb.Info(ctx, "memory").Val(), "used_memory:")
	_, err := fmt.Sscan(rest, &used)
	require.NoError(t, err)
	require.NoError(t, rdb.ConfigSet(ctx, "maxmemory", fmt.Sprint(used+used/100)).Err())
	config := migrate.Config{Operation: migrate.Unseal, From: migrate.Space{Namespace: "ns"}, To: &migrate.Space{Namespace: "new"}, Keys: a}
	_, err = migratetest.Unproven(ctx, rdb, config)
	require.ErrorIs(t, err, migrate.ErrMemory)
	require.Less(t, len(rdb.Keys(ctx, "new:*").Val()), 100)
	config.To = nil
	require.True(t, run(t, rdb, config).Done())
}

// The first write of a run to a server without memory ends the run, with the remedy.
func TestSealWithoutMemory(t *testing.T) {
	t.Parallel()
	rdb, ctx := redistest.Start(t).Client(t), t.Context()
	require.NoError(t, rdb.Set(ctx, "ns:k", "value", 0).Err())
	require.NoError(t, rdb.ConfigSet(ctx, "maxmemory", "1").Err())
	_, err := migratetest.Unproven(ctx, rdb, migrate.Config{Operation: migrate.Seal, From: migrate.Space{Namespace: "ns"}, Keys: sealtest.Envelope(t)})
	require.ErrorIs(t, err, migrate.ErrMemory)
	require.Equal(t, "value", rdb.Get(ctx, "ns:k").Val())
}

// So does the first write of a run that is resumed.
func TestResumeWithoutMemory(t *testing.T) {
	t.Parallel()
	rdb, ctx := redistest.Start(t).Client(t), tuned(t.Context(), rediswalk.Tuning{RetryFor: time.Millisecond})
	require.NoError(t, rdb.Set(ctx, "ns:k", "value", 0).Err())
	require.NoError(t, rdb.SetRange(ctx, "large", 20<<20, "v").Err())
	var used int64
	_, rest, _ := strings.Cut(rdb.Info(ctx, "memory").Val(), "used_memory:")
	_, err := fmt.Sscan(rest, &used)
	require.NoError(t, err)
	config := migrate.Config{Operation: migrate.Seal, From: migrate.Space{Namespace: "ns"}, Keys: sealtest.Envelope(t), Checkpoint: filepath.Join(t.TempDir(), "checkpoint")}
	for _, most := range []int64{used + used/50, used / 2} {
		require.NoError(t, rdb.ConfigSet(ctx, "maxmemory", fmt.Sprint(most)).Err())
		_, err = migratetest.Unproven(ctx, rdb, config)
		require.ErrorIs(t, err, migrate.ErrMemory)
		require.FileExists(t, config.Checkpoint)
	}
	require.NoError(t, rdb.ConfigSet(ctx, "maxmemory", "0").Err())
	require.EqualValues(t, 1, run(t, rdb, config).Written)
}

// twice sends every script a second time, as a client does whose connection was cut before the answer.
type twice struct{}

func (twice) DialHook(next redis.DialHook) redis.DialHook          { return next }
func (twice) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }
func (twice) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		if n := cmds[0].Name(); n == "evalsha" || n == "eval" {
			_ = next(ctx, cmds)
		}
		return next(ctx, cmds)
	}
}

// A sealed value that was empty is there when it was written and the answer was lost.
func TestEmptyValueHasNotDisappeared(t *testing.T) {
	t.Parallel()
	rdb := redis.NewClient(shared.Single.ClientOptions())
	t.Cleanup(func() { _ = rdb.Close() })
	rdb.AddHook(twice{})
	a, ns := sealtest.Keyring(t), t.Name()
	require.NoError(t, migratetest.SealedStore(t, shared.Single.Client(t), a, ns).Set(t.Context(), "k", ""))
	r := run(t, rdb, migrate.Config{Operation: migrate.Unseal, From: migrate.Space{Namespace: ns}, Keys: a})
	require.Zero(t, r.Disappeared)
	require.EqualValues(t, 1, r.AlreadyDone)
	require.True(t, r.Done())
}
