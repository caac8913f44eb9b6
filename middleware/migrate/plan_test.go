package migrate_test

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/internal/migratetest"
	"github.com/sealcache/sealcache/internal/redistest"
	"github.com/sealcache/sealcache/internal/sealtest"
	"github.com/sealcache/sealcache/middleware/migrate"
)

// Plan counts entries by prefix and form, and says what would stop a run.
func TestPlan(t *testing.T) {
	t.Parallel()
	rdb := redistest.Start(t).Client(t)
	ctx := t.Context()
	for i := range 20 {
		require.NoError(t, rdb.Set(ctx, fmt.Sprint("shop:json:", i), `{"a":1}`, time.Hour).Err())
		require.NoError(t, rdb.Set(ctx, fmt.Sprint("shop:count:", i), i, 0).Err())
		require.NoError(t, rdb.Set(ctx, fmt.Sprint("shop:float:", i), "1.5", 0).Err())
		require.NoError(t, rdb.Set(ctx, fmt.Sprint("shop:lock:", i), "0123456789abcdef", time.Minute).Err())
		require.NoError(t, rdb.Set(ctx, fmt.Sprint("shop:text:", i), "some words of text", 0).Err())
		require.NoError(t, rdb.Set(ctx, fmt.Sprint("shop:pack:", i), "\x81\xa1a\x01", 0).Err())
		require.NoError(t, rdb.SetBit(ctx, fmt.Sprint("shop:bits:", i), 3, 1).Err())
		require.NoError(t, rdb.Set(ctx, fmt.Sprint("shop:skip:", i), "x", 0).Err())
		require.NoError(t, rdb.HSet(ctx, fmt.Sprint("shop:hash:", i), "f", "v").Err())
		require.NoError(t, migratetest.SealedStore(t, rdb, sealtest.Keyring(t), "shop").Set(ctx, fmt.Sprint("sealed:", i), "v"))
	}
	require.NoError(t, rdb.Do(ctx, "set", "shop:text:large", strings.Repeat("text ", 1000), "px", math.MaxInt64/1_000_000+int64(1e9)).Err())
	config := migrate.PlanConfig{From: migrate.Space{Namespace: "shop"}, Exclude: []string{"skip:", "none:"}, Largest: 1, LeaveNumbers: true}
	r, err := migrate.Plan(ctx, rdb, config)
	require.NoError(t, err)
	require.True(t, r.Complete)
	require.EqualValues(t, 201, r.Seen)
	require.EqualValues(t, 20, r.Excluded)
	require.Equal(t, []string{"none:"}, r.UnmatchedExcludes)
	require.EqualValues(t, 121, r.WouldSeal.Values)
	require.EqualValues(t, 121*107, r.Growth)
	require.Equal(t, []migrate.LargeValue{{Name: "shop:text:large", Bytes: 5000}}, r.Largest)
	require.Empty(t, r.Obstacles)
	forms := map[string]migrate.Form{
		"json:": migrate.FormJSON, "count:": migrate.FormInteger, "float:": migrate.FormFloat, "lock:": migrate.FormToken,
		"text:": migrate.FormText, "pack:": migrate.FormMsgPack, "bits:": migrate.FormModified, "sealed:": migrate.FormSealed,
	}
	require.Len(t, r.Groups, len(forms)+1)
	for _, g := range r.Groups {
		if g.Prefix == "hash:" {
			require.EqualValues(t, 20, g.Types["hash"])
			continue
		}
		if g.Prefix == "text:" {
			require.EqualValues(t, 20, g.Forms[migrate.FormText].NoExpiry, "an expiry of more than 292 years is one, too")
		}
		require.Len(t, g.Forms, 1, g.Prefix)
		require.GreaterOrEqual(t, g.Forms[forms[g.Prefix]].Values, int64(20), g.Prefix)
	}

	// Text behind the start of a sealed value, and text that starts like a HyperLogLog, do not count as what they look like.
	other := redistest.Start(t).Client(t)
	require.NoError(t, other.Set(ctx, "planted", "\xC1\x5C\x01\x01\x01\x00alice@example.com and more of her data", 0).Err())
	require.NoError(t, other.Set(ctx, "text", "HYLL and goodbye, all of you", 0).Err())
	require.NoError(t, other.PFAdd(ctx, "log", "a", "b").Err())
	r, err = migrate.Plan(ctx, other, migrate.PlanConfig{})
	require.NoError(t, err)
	require.Len(t, r.Groups, 1)
	for form, want := range map[migrate.Form]int64{migrate.FormUnknown: 1, migrate.FormText: 1, migrate.FormHyperLogLog: 1} {
		require.Equal(t, want, r.Groups[0].Forms[form].Values, form)
	}
	require.EqualValues(t, 1, r.WouldSeal.Values)

	// Obstacles: memory, and commands that are not allowed.
	var used int64
	_, rest, _ := strings.Cut(rdb.Info(ctx, "memory").Val(), "used_memory:")
	_, err = fmt.Sscan(rest, &used)
	require.NoError(t, err)
	require.NoError(t, rdb.ConfigSet(ctx, "maxmemory", fmt.Sprint(used+used/100)).Err())
	r, err = migrate.Plan(ctx, rdb, config)
	require.NoError(t, err)
	require.Contains(t, strings.Join(r.Obstacles, "\n"), "maxmemory")
	server := redistest.StartWith(t, redistest.Options{User: "u", Password: "secret", Rules: "~* +@all -evalsha -eval"})
	r, err = migrate.Plan(ctx, server.Client(t), config)
	require.NoError(t, err)
	require.Contains(t, strings.Join(r.Obstacles, "\n"), "a real run would fail, because Redis refuses EVAL, EVALSHA or SET")
	require.NotContains(t, strings.Join(r.Obstacles, "\n"), "migrate:")

	server = redistest.StartWith(t, redistest.Options{User: "u", Password: "secret", Rules: "~* +@all -object"})
	require.NoError(t, server.Client(t).Set(ctx, "shop:a", "v", 0).Err())
	r, err = migrate.Plan(ctx, server.Client(t), migrate.PlanConfig{})
	require.NoError(t, err)
	require.Contains(t, strings.Join(r.Obstacles, "\n"), "OBJECT ENCODING")
	for text, blind := range map[string]bool{"ERR 42": true, "OBJECT is disabled": true, "ERR request timed out": false} {
		o := server.ClientOptions()
		o.Addr = redistest.Refusing(t, server.Addr(), map[string]string{"object": text})
		through := redis.NewClient(o)
		r, err = migrate.Plan(ctx, through, migrate.PlanConfig{})
		require.Equal(t, blind, err == nil, text)
		if blind {
			require.Contains(t, strings.Join(r.Obstacles, "\n"), "OBJECT ENCODING", text)
		}
		require.NoError(t, through.Close())
	}
	for _, command := range []string{"strlen", "pttl", "getrange", "scan", "type"} {
		server = redistest.StartWith(t, redistest.Options{User: "u", Password: "secret", Rules: "~* +@all -" + command})
		require.NoError(t, server.Client(t).Set(ctx, "shop:a", "v", 0).Err())
		require.NoError(t, server.Client(t).HSet(ctx, "shop:hash", "f", "v").Err())
		_, err = migrate.Plan(ctx, server.Client(t), migrate.PlanConfig{})
		require.ErrorContains(t, err, command, "sizes and expiries are not guessed")
		require.ErrorContains(t, err, "(allow it in the ACL of the Redis user, or in the proxy)")
	}

	for _, wrong := range []migrate.PlanConfig{{Exclude: []string{""}}, {Rate: -1}, {Rate: math.NaN()}, {MaxValueBytes: -1}, {Overhead: -1}, {Largest: -1}} {
		_, err = migrate.Plan(ctx, rdb, wrong)
		require.ErrorIs(t, err, migrate.ErrConfig)
	}
	_, err = migrate.Plan(ctx, shared.Cluster.Nodes()[0].Client(t), migrate.PlanConfig{})
	require.ErrorIs(t, err, migrate.ErrClusterNode)
}
