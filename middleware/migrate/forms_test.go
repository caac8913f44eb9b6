package migrate_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/internal/migratetest"
	"github.com/sealcache/sealcache/internal/sealtest"
	"github.com/sealcache/sealcache/middleware/audit"
	"github.com/sealcache/sealcache/middleware/migrate"
)

// Commands of Redis other than SET work on some values: counters are sealed like other values and counted, or left; HyperLogLogs
// are left. Fernet's tokens are sealed as they are, and counted.
func TestEntriesThatAreNotValues(t *testing.T) {
	on(t, func(t *testing.T, rdb redis.UniversalClient, ns string) {
		ctx := t.Context()
		a := sealtest.Keyring(t)
		numbers := []string{"0", "7", "-1", "9223372036854775807", "-9223372036854775808"}
		texts := []string{"", "-", "-0", "007", "+1", "1.5", " 1", "1\n", "9223372036854775808", "1e3", "0x10", "1_000", "HYLL and goodbye, all of you"}
		for i, v := range append(numbers, texts...) {
			require.NoError(t, rdb.Set(ctx, name(ns, i), v, 0).Err())
		}
		require.NoError(t, rdb.Set(ctx, ns+":fernet", "gAAAAAB"+strings.Repeat("a", 93), 0).Err())
		require.NoError(t, rdb.PFAdd(ctx, ns+":sparse", "x").Err())
		for i := range 5000 {
			require.NoError(t, rdb.PFAdd(ctx, ns+":dense", i).Err())
		}
		// HyperLogLogs have other lengths.
		require.NoError(t, rdb.Set(ctx, ns+":short", "HYLL\x01"+strings.Repeat("x", 10), 0).Err())
		require.NoError(t, rdb.Set(ctx, ns+":long", "HYLL\x00"+strings.Repeat("x", 12300), 0).Err())
		texts = append(texts, "short", "long")
		report := audited(t, rdb, audit.Config{Prefix: ns + ":", Samples: 5})
		require.EqualValues(t, len(numbers)+len(texts), report.Total.Plaintext.Values)
		require.Equal(t, map[string]int64{"HyperLogLog": 2}, report.OtherTypes)
		require.ElementsMatch(t, []string{ns + ":sparse", ns + ":dense"}, report.Samples["of type HyperLogLog"])

		config := migrate.Config{Operation: migrate.Seal, From: migrate.Space{Namespace: ns}, Keys: a, LeaveNumbers: true}
		reseal := migrate.Config{Operation: migrate.Reseal, From: migrate.Space{Namespace: ns}, Keys: a}
		for _, config.DryRun = range []bool{true, false} {
			r := run(t, rdb, config)
			require.EqualValues(t, len(numbers), r.Numbers)
			require.EqualValues(t, len(texts)+1, r.Written)
			require.EqualValues(t, 2, r.OtherTypes["HyperLogLog"])
			require.EqualValues(t, 1, r.Fernet)
			require.True(t, r.Done(), "%+v", r)
		}
		require.EqualValues(t, 8, rdb.Incr(ctx, name(ns, 1)).Val())
		require.EqualValues(t, 1, rdb.PFCount(ctx, ns+":sparse").Val())
		require.NoError(t, rdb.PFAdd(ctx, ns+":dense", "y").Err())
		require.EqualValues(t, len(numbers), run(t, rdb, reseal).Plaintext, "HyperLogLogs are not in question")

		config.LeaveNumbers = false
		for _, config.DryRun = range []bool{true, false} {
			r := run(t, rdb, config)
			require.EqualValues(t, len(numbers), r.Written)
			require.EqualValues(t, len(numbers), r.Numbers)
			var text strings.Builder
			require.NoError(t, r.WriteText(&text))
			require.Contains(t, text.String(), "INCR fails on sealed numbers")
		}
		for i := range numbers {
			require.True(t, isSealed(stored(t, rdb, name(ns, i))))
		}
		scope := audit.Config{Prefix: ns + ":"}
		answer, why := audited(t, rdb, scope).AnythingPlaintext()
		require.Equal(t, audit.Unknown, answer)
		require.Contains(t, strings.Join(why, "; "), "2 strings look like HyperLogLogs")
		scope.IgnoreTypes = allTypes
		answer, _ = audited(t, rdb, scope).AnythingPlaintext()
		require.Equal(t, audit.Unknown, answer, "they are strings")
		scope.Exclude = []string{ns + ":sparse", ns + ":dense"}
		answer, why = audited(t, rdb, scope).AnythingPlaintext()
		require.Equal(t, audit.No, answer, why)
		config.LeaveNumbers, config.Operation = true, migrate.Unseal
		_, err := migratetest.Unproven(ctx, rdb, config)
		require.ErrorIs(t, err, migrate.ErrConfig)
	})
}

// Values of every length about which one read changes into another, at first read or after they had changed.
func TestSizesOfValues(t *testing.T) {
	on(t, func(t *testing.T, rdb redis.UniversalClient, ns string) {
		ctx := t.Context()
		a := sealtest.Keyring(t)
		sizes := []int{0, 1, 8191, 8192, 8193, 100_000, 1<<20 + 1}
		for i := range 600 { // more than are read at a time
			require.NoError(t, rdb.Set(ctx, name(ns, i), strings.Repeat("v", sizes[i%len(sizes)%5]), time.Hour).Err())
		}
		for i, n := range sizes {
			require.NoError(t, rdb.Set(ctx, name(ns, i), strings.Repeat("v", n), time.Hour).Err())
		}
		require.NoError(t, rdb.RPush(ctx, ns+":list", "x").Err())
		config := migrate.Config{Operation: migrate.Seal, From: migrate.Space{Namespace: ns}, Keys: a, MaxValueBytes: 1 << 20}
		for _, config.DryRun = range []bool{true, false} {
			r := run(t, rdb, config)
			require.EqualValues(t, 599, r.Written)
			require.EqualValues(t, 1, r.TooLarge)
			require.EqualValues(t, 1, r.OtherTypes["list"])
			require.Zero(t, r.Disappeared)
		}
		app := migratetest.SealedStore(t, rdb, a, ns)
		for i := range 600 {
			want := sizes[i%len(sizes)%5]
			if i < len(sizes)-1 {
				want = sizes[i]
			}
			if i != len(sizes)-1 {
				require.Len(t, value(t, app, fmt.Sprint("k", i)), want)
			}
		}
		config = migrate.Config{Operation: migrate.Unseal, From: migrate.Space{Namespace: ns}, Keys: a, MaxValueBytes: 100}
		r := run(t, rdb, config)
		require.Positive(t, r.TooLarge)
		require.EqualValues(t, 600, r.TooLarge+r.Written+r.AlreadyDone)
	})
}
