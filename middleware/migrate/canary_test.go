package migrate_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/sealcache/sealcache/middleware/internal/rediswalk"
	"github.com/sealcache/sealcache/middleware/migrate"
)

// What the application sealed itself tells whether a run has its keys and its namespace, before anything is written.
func TestNothingIsWrittenUnderWrongKeys(t *testing.T) {
	on(t, func(t *testing.T, rdb redis.UniversalClient, ns string) {
		a := envelope(t)
		require.NoError(t, sealedStore(t, rdb, a, ns).Set(t.Context(), "sealed", "v"))
		require.NoError(t, sealedStore(t, rdb, a, ns+"-to").Set(t.Context(), "sealed", "v"))
		fill(t, rdb, ns, 100)
		space, to := migrate.Space{Namespace: ns}, migrate.Space{Namespace: ns + "-to"}
		for what, c := range map[string]migrate.Config{
			"a namespace taken for a prefix": {Operation: migrate.Seal, From: migrate.Space{Prefix: ns + ":"}, Keys: a},
			"another keyset":                 {Operation: migrate.Seal, From: space, Keys: keyring(t)},
			"another envelope":               {Operation: migrate.Seal, From: space, Keys: envelope(t)},
			"bound to another place":         {Operation: migrate.Seal, From: migrate.Space{Prefix: ns + ":"}, To: &migrate.Space{Namespace: ns}, Keys: keyring(t)},
			"reseal":                         {Operation: migrate.Reseal, From: space, Keys: keyring(t), OldKeys: envelope(t)},
			"unseal":                         {Operation: migrate.Unseal, From: space, Keys: keyring(t)},
			"where names move to":            {Operation: migrate.Seal, From: migrate.Space{Namespace: ns, Prefix: "k"}, To: &to, Keys: keyring(t)},
		} {
			for _, c.DryRun = range []bool{true, false} {
				r, err := migrate.Run(t.Context(), rdb, c)
				require.ErrorIs(t, err, migrate.ErrWrongKeys, what)
				require.NotContains(t, err.Error(), ns)
				require.False(t, r.Complete)
				require.Zero(t, r.Written)
			}
		}
		for i := range 100 {
			require.False(t, isSealed(stored(t, rdb, name(ns, i))))
		}
		right := migrate.Config{Operation: migrate.Seal, From: space, Keys: a}
		r := run(t, rdb, right)
		require.True(t, r.Done())
		require.EqualValues(t, 1, r.Opened)

		// Who knows that what is there is of no use any more can say so.
		require.NoError(t, rdb.Set(t.Context(), ns+":clear", "v", 0).Err())
		wrong := migrate.Config{Operation: migrate.Seal, From: space, Keys: envelope(t), IgnoreUnreadable: true}
		r = run(t, rdb, wrong)
		require.EqualValues(t, 1, r.Written)
		require.EqualValues(t, 101, r.UnknownKey)
	})
}

// Some may be damaged, or of keys that are gone, if at least half open; the report says so.
func TestHalfMustOpen(t *testing.T) {
	on(t, func(t *testing.T, rdb redis.UniversalClient, ns string) {
		a, stranger := keyring(t), keyring(t)
		for i := range 3 {
			require.NoError(t, sealedStore(t, rdb, stranger, ns).Set(t.Context(), fmt.Sprint(i), "v"))
		}
		require.NoError(t, sealedStore(t, rdb, a, ns).Set(t.Context(), "good", "v"))
		require.NoError(t, rdb.Set(t.Context(), ns+":clear", "v", 0).Err())
		config := migrate.Config{Operation: migrate.Seal, From: migrate.Space{Namespace: ns}, Keys: a}
		r, err := migrate.Run(t.Context(), rdb, config)
		require.ErrorIs(t, err, migrate.ErrWrongKeys)
		require.Zero(t, r.Written)
		for i := range 2 {
			require.NoError(t, sealedStore(t, rdb, a, ns).Set(t.Context(), fmt.Sprint("good", i), "v"))
		}
		r = run(t, rdb, config)
		require.EqualValues(t, 1, r.Written)
		require.EqualValues(t, 3, r.UnknownKey)
		require.Len(t, r.Warnings, 1)
		require.Contains(t, r.Warnings[0], "3 of 6")
	})
}

// What a run under wrong keys has written is most of what is sealed: it is no proof of those keys. Where each key has
// opened or not by half, the report says so.
func TestWhatAWrongRunWroteIsNoProof(t *testing.T) {
	on(t, func(t *testing.T, rdb redis.UniversalClient, ns string) {
		a, wrong := envelope(t), envelope(t)
		fill(t, rdb, ns, 3000)
		config := migrate.Config{Operation: migrate.Seal, From: migrate.Space{Namespace: ns}, Keys: wrong, IgnoreUnreadable: true}
		require.EqualValues(t, 3000, run(t, rdb, config).Written)
		require.NoError(t, sealedStore(t, rdb, a, ns).Set(t.Context(), "sealed", "v"))
		require.NoError(t, rdb.Set(t.Context(), ns+":clear", "v", 0).Err())
		config.IgnoreUnreadable, config.DryRun = false, true
		r := run(t, rdb, config)
		require.Len(t, r.Warnings, 1)
		require.Contains(t, r.Warnings[0], "under 1 of 2 keys")
		require.NoError(t, sealedStore(t, rdb, keyring(t), ns).Set(t.Context(), "other", "v"))
		_, err := migrate.Run(t.Context(), rdb, config)
		require.ErrorIs(t, err, migrate.ErrWrongKeys)
	})
}

// A rate makes the search for sealed entries slower and not shorter; large ones are tried if there are no others.
func TestRateDoesNotShortenTheSearch(t *testing.T) {
	on(t, func(t *testing.T, rdb redis.UniversalClient, ns string) {
		fill(t, rdb, ns, 5000)
		require.NoError(t, sealedStore(t, rdb, envelope(t), ns).Set(t.Context(), "sealed", strings.Repeat("v", 2<<20)))
		r, err := migrate.Run(t.Context(), rdb, migrate.Config{
			Operation: migrate.Seal, From: migrate.Space{Namespace: ns}, Keys: envelope(t), Rate: 1000,
		})
		require.ErrorIs(t, err, migrate.ErrWrongKeys)
		require.Zero(t, r.Written)
		require.NotContains(t, err.Error(), "were written")
	})
}

// meanwhile calls do once, when n values were sealed.
type meanwhile struct {
	tink.AEADWithContext
	n  atomic.Int64
	do func()
}

func (m *meanwhile) EncryptWithContext(ctx context.Context, plaintext, ad []byte) ([]byte, error) {
	if m.n.Add(-1) == 0 {
		m.do()
	}
	return m.AEADWithContext.EncryptWithContext(ctx, plaintext, ad)
}

// While nothing has opened, the first sealed entry that a run meets ends it, and the report says what was written by then.
func TestTheFirstThatDoesNotOpenEndsTheRun(t *testing.T) {
	on(t, func(t *testing.T, rdb redis.UniversalClient, ns string) {
		for what, to := range map[string]*migrate.Space{"in place": nil, "moved": {Namespace: ns + "-to"}} {
			const entries, batch = 1000, 20
			fill(t, rdb, ns, entries)
			a := sealedStore(t, rdb, keyring(t), ns)
			keys := &meanwhile{AEADWithContext: keyring(t)}
			keys.n.Store(entries / 2)
			keys.do = func() {
				for i := range entries {
					require.NoError(t, a.Set(t.Context(), fmt.Sprint("k", i), "v"))
				}
			}
			r, err := migrate.Run(tuned(t.Context(), rediswalk.Tuning{Workers: 1, BatchSize: batch}), rdb, migrate.Config{
				Operation: migrate.Seal, From: migrate.Space{Namespace: ns}, To: to, Keys: keys,
			})
			require.ErrorIs(t, err, migrate.ErrWrongKeys, what)
			require.Contains(t, err.Error(), fmt.Sprint(r.Written, " entries were written"), what)
			require.Equal(t, err.Error(), r.Error, what)
			require.Less(t, r.Unreadable+r.UnknownKey, int64(batch), what)
			require.Greater(t, r.Written, int64(0), what)
			require.Less(t, r.Written, int64(entries/2+2*batch), what)
		}
	})
}

// What opens under OldKeys says nothing of Keys, which may be anybody's.
func TestKeysUnderWhichNothingOpened(t *testing.T) {
	on(t, func(t *testing.T, rdb redis.UniversalClient, ns string) {
		a, old := keyring(t), envelope(t)
		require.NoError(t, sealedStore(t, rdb, old, ns).Set(t.Context(), "k", "v"))
		config := migrate.Config{Operation: migrate.Reseal, From: migrate.Space{Namespace: ns}, Keys: a, OldKeys: old, DryRun: true}
		says := func(r *migrate.Report, unproven bool) {
			t.Helper()
			require.Equal(t, unproven, r.Unproven())
			data, err := json.Marshal(r)
			require.NoError(t, err)
			require.Contains(t, string(data), fmt.Sprintf(`"unproven":%v`, unproven))
			var text strings.Builder
			require.NoError(t, r.WriteText(&text))
			require.Equal(t, unproven, strings.Contains(text.String(), "NO SEALED ENTRY OPENED UNDER KEYS"))
		}
		r := run(t, rdb, config)
		require.EqualValues(t, 1, r.Opened)
		require.Zero(t, r.OpenedUnderKeys)
		says(r, true)

		moved := config
		moved.To, moved.DeleteOld = &migrate.Space{Namespace: ns + "-to"}, true
		for _, moved.Operation = range []migrate.Operation{migrate.Reseal, migrate.Seal} {
			for _, moved.DryRun = range []bool{true, false} {
				r, err := migrate.Run(t.Context(), rdb, moved)
				require.ErrorIs(t, err, migrate.ErrWrongKeys)
				require.NotContains(t, err.Error(), ns)
				require.Zero(t, r.Written)
			}
		}
		require.EqualValues(t, 1, rdb.Exists(t.Context(), ns+":k").Val())

		require.NoError(t, sealedStore(t, rdb, a, ns).Set(t.Context(), "new", "v"))
		r = run(t, rdb, config)
		require.EqualValues(t, 2, r.Opened)
		require.EqualValues(t, 1, r.OpenedUnderKeys)
		says(r, false)
		r = run(t, rdb, moved)
		require.EqualValues(t, 2, r.Deleted)
	})
}
