package migrate_test

import (
	"context"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/eko/gocache/lib/v4/store"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/internal/migratetest"
	"github.com/sealcache/sealcache/internal/redistest"
	"github.com/sealcache/sealcache/internal/sealtest"
	"github.com/sealcache/sealcache/middleware"
	"github.com/sealcache/sealcache/middleware/audit"
	"github.com/sealcache/sealcache/middleware/internal/rediswalk"
	"github.com/sealcache/sealcache/middleware/migrate"
)

// A user of Redis with no more than the runbook names.
func TestPermissions(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		rules string
		to    *migrate.Space
	}{
		"in place": {"~* +scan +info +strlen +get +mget +type +getrange +exists +set +evalsha +eval +ping +hello +client", nil},
		"moved": {"~* +scan +info +strlen +get +mget +type +getrange +exists +set +evalsha +eval +ping +hello +client " +
			"+pexpiretime +del +sscan +sadd +srem +persist +pexpireat", &migrate.Space{Namespace: "n"}},
		"without info": {"~* +scan +strlen +get +mget +type +getrange +exists +set +evalsha +eval +ping +hello +client", nil},
	} {
		server := redistest.StartWith(t, redistest.Options{User: "mover", Password: "secret", Rules: c.rules})
		rdb := server.Client(t)
		require.NoError(t, rdb.Set(t.Context(), "old:a", "v", time.Hour).Err())
		if c.to != nil {
			require.NoError(t, rdb.SAdd(t.Context(), "gocache_tag_t", "old:a").Err())
		}
		both, former, _ := sealtest.Rotated(t, sealtest.Handle(t))
		keys := sealtest.KeyringOf(t, both)
		if c.to != nil {
			require.NoError(t, migratetest.SealedStore(t, rdb, keys, c.to.Namespace).Set(t.Context(), "sealed", "v"))
		}
		config := migrate.Config{Operation: migrate.Seal, From: migrate.Space{Prefix: "old:"}, To: c.to, Keys: keys, DeleteOld: c.to != nil}
		if name == "without info" { // a restart would not be noticed
			_, err := migratetest.Unproven(t.Context(), rdb, config)
			require.ErrorContains(t, err, "migrate: the server refused INFO")
			require.Equal(t, "v", string(stored(t, rdb, "old:a")))
			require.NoError(t, rdb.Set(t.Context(), "old:a", "\xC1\x5C\x01\x01\x01\x00\x01\x00\x00\x00\x07"+strings.Repeat("x", 40), 0).Err())
		} else {
			r := run(t, rdb, config)
			require.EqualValues(t, 1, r.Written, name)
			require.True(t, r.Done())
		}
		report := audited(t, rdb, audit.Config{})
		answer, why := report.AnythingPlaintext()
		may, _ := report.MayDestroy(former, audit.Conditions{Keyset: keys.Keys(), NotPrimarySince: time.Now().Add(-100 * time.Hour)})
		if name == "without info" { // a restart would not have been noticed
			require.Equal(t, audit.Unknown, answer)
			require.Contains(t, why[0], "INFO")
			require.Equal(t, audit.Unknown, may)
			continue
		}
		require.Equal(t, audit.No, answer, why)
		require.Equal(t, audit.Yes, may)
	}
}

// A right that the Redis user loses during the run is named with its remedy. Both entries stay.
func TestDeletionIsDenied(t *testing.T) {
	t.Parallel()
	server := redistest.StartWith(t, redistest.Options{User: "admin", Password: "secret", Rules: "~* +@all"})
	ctx, admin := t.Context(), server.Client(t)
	require.NoError(t, admin.Do(ctx, "acl", "setuser", "mover", "on", ">secret", "~*", "+@all").Err())
	o := *server.ClientOptions()
	o.Username = "mover"
	rdb := redis.NewClient(&o)
	t.Cleanup(func() { _ = rdb.Close() })
	require.NoError(t, admin.Set(ctx, "old:a", "v", time.Hour).Err())
	rdb.AddHook(before{"set", func() { require.NoError(t, admin.Do(ctx, "acl", "setuser", "mover", "-del").Err()) }})
	_, err := migratetest.Unproven(ctx, rdb, migrate.Config{
		Operation: migrate.Seal, From: migrate.Space{Prefix: "old:"}, To: &migrate.Space{Namespace: "new"}, Keys: sealtest.Keyring(t), DeleteOld: true,
	})
	require.Regexp(t, `^migrate: cannot delete old entries with DEL: [^()]* \(allow it in the ACL of the Redis user, or in the proxy\)$`, err)
	require.EqualValues(t, 2, admin.Exists(ctx, "old:a", "new:a").Val())
}

// withoutRunID answers INFO as a proxy that hides which server it asks.
type withoutRunID struct{}

func (withoutRunID) DialHook(next redis.DialHook) redis.DialHook { return next }

func (withoutRunID) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (withoutRunID) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		err := next(ctx, cmd)
		if info, ok := cmd.(*redis.StringCmd); ok && cmd.Name() == "info" {
			info.SetVal(strings.ReplaceAll(info.Val(), "run_id:", "hidden:"))
		}
		return err
	}
}

// A run at a server that does not show its run_id says that a restart would have gone unnoticed.
func TestRunWithoutRunID(t *testing.T) {
	t.Parallel()
	rdb := redistest.Start(t).Client(t)
	require.NoError(t, rdb.Set(t.Context(), "shop:a", "v", 0).Err())
	config := migrate.Config{Operation: migrate.Seal, From: migrate.Space{Namespace: "shop"}, Keys: sealtest.Keyring(t)}
	require.NotContains(t, strings.Join(run(t, rdb, config).Warnings, "\n"), "run_id")
	rdb.AddHook(withoutRunID{})
	r := run(t, struct{ redis.UniversalClient }{rdb}, config) // its options are unknown, so there are no connections without the hook
	require.True(t, r.Done())
	require.Contains(t, strings.Join(r.Warnings, "\n"), "run_id")
}

// A dry run finds each command that a real run would not be allowed to call, and nothing is changed.
func TestDryRunTestsTheCommands(t *testing.T) {
	t.Parallel()
	server := redistest.StartWith(t, redistest.Options{User: "mover", Password: "secret", Rules: "~* +@all"})
	ctx, admin := t.Context(), server.Client(t)
	a := sealtest.Envelope(t)
	s := migratetest.SealedStore(t, admin, a, "shop", middleware.WithAuthenticatedExpiry())
	require.NoError(t, s.Set(ctx, "expires", "v", store.WithExpiration(time.Hour)))
	require.NoError(t, admin.Persist(ctx, "shop:expires").Err())
	seal := migrate.Config{Operation: migrate.Seal, From: migrate.Space{Namespace: "shop"}, Keys: a, DryRun: true, AllowUnproven: true}
	recorded, moved, unseal := seal, seal, seal
	recorded.Checkpoint = filepath.Join(t.TempDir(), "checkpoint")
	moved.To, moved.DeleteOld = &migrate.Space{Namespace: "new"}, true
	// The first set is of an application without a namespace. The tag of the hidden entry is sealed in its value.
	require.NoError(t, admin.SAdd(ctx, "gocache_tag_t", "shop:expires").Err())
	require.NoError(t, admin.SAdd(ctx, "gocache_tag_shop:t", "shop:expires").Err())
	keys := newPRFKeys(t, 2)
	hidden := migratetest.SealedStore(t, admin, a, "hidden", middleware.WithHiddenKeys(keys.set(t, 0)))
	require.NoError(t, hidden.Set(ctx, "tagged", "v", store.WithTags([]string{"t"})))
	renamed := migrate.Config{
		Operation: migrate.Reseal, From: migrate.Space{Namespace: "hidden"}, Keys: a, HiddenKeys: keys.set(t, 1), DryRun: true, AllowUnproven: true,
	}
	unseal.Operation = migrate.Unseal
	without := func(command string) redis.UniversalClient {
		require.NoError(t, admin.Do(ctx, "acl", "setuser", command, "reset", "on", ">secret", "~*", "+@all", "-"+command).Err())
		o := *server.ClientOptions()
		o.Username, o.Password = command, "secret"
		c := redis.NewClient(&o)
		t.Cleanup(func() { _ = c.Close() })
		return c
	}
	for command, c := range map[string]migrate.Config{
		"del": moved, "time": unseal, "pttl": unseal, "pexpireat": unseal,
		"hset": recorded, "hincrby": recorded, "expire": recorded, "hdel": recorded, "hget": recorded, "hlen": recorded, "hkeys": recorded, "hstrlen": recorded,
		"sadd": seal, "persist": renamed, "srem": moved,
	} {
		names := scanned(t, admin, "*")
		_, err := migrate.Run(ctx, without(command), c)
		require.ErrorContains(t, err, "a real run would fail", command)
		require.Zero(t, admin.Exists(ctx, rediswalk.RunsName).Val(), command)
		_, err = migrate.Run(ctx, admin, c)
		require.NoError(t, err, command)
		require.Equal(t, names, scanned(t, admin, "*"), command)
	}
	r, err := migrate.Run(ctx, without("hset"), seal)
	require.NoError(t, err)
	require.Contains(t, strings.Join(r.Warnings, "\n"), "older checkpoint files would stay valid")
	seal.DryRun = false
	_, err = migrate.Run(ctx, without("hkeys"), seal)
	require.NoError(t, err, "without a checkpoint, the record is not needed")

	// A real run without the right leaves the entry sealed: as plaintext it would never expire.
	before := stored(t, admin, "shop:expires")
	unseal.DryRun = false
	_, err = migrate.Run(ctx, without("time"), unseal)
	require.Error(t, err)
	require.Equal(t, before, stored(t, admin, "shop:expires"))
	_, err = migrate.Run(ctx, without("pexpireat"), unseal)
	require.Error(t, err)
	require.Equal(t, before, stored(t, admin, "shop:expires"))
}

// A run ends when Redis refuses a command with which a script compares an entry. The entry has not changed.
func TestRefusedComparison(t *testing.T) {
	t.Parallel()
	server := redistest.StartWith(t, redistest.Options{User: "mover", Password: "secret", Rules: "~* +@all"})
	ctx, admin := t.Context(), server.Client(t)
	a, prfKeys := sealtest.Envelope(t), newPRFKeys(t, 2)
	config := func(o migrate.Operation, namespace string) migrate.Config {
		return migrate.Config{Operation: o, From: migrate.Space{Namespace: namespace}, Keys: a, AllowUnproven: true}
	}
	hidden := middleware.WithHiddenKeys(prfKeys.set(t, 0))
	rename := config(migrate.Reseal, "hidden")
	rename.HiddenKeys = prfKeys.set(t, 1)
	move := config(migrate.Seal, "sealed")
	move.To, move.DeleteOld = &migrate.Space{Namespace: "new"}, true
	rebind := config(migrate.Seal, "sealed")
	rebind.To = &migrate.Space{Prefix: "sealed:"} // the names stay as they are
	require.NoError(t, admin.Set(ctx, "plain:k", "v", 0).Err())
	require.NoError(t, migratetest.SealedStore(t, admin, a, "sealed").Set(ctx, "k", "v"))
	require.NoError(t, migratetest.SealedStore(t, admin, a, "hidden", hidden).Set(ctx, "k", "v"))
	for _, c := range []struct {
		command, names string
		config         migrate.Config
	}{
		{"get", "Redis refuses GET", config(migrate.Seal, "plain")},
		{"strlen", "Redis refuses STRLEN", config(migrate.Unseal, "sealed")},
		{"strlen", "Redis refuses STRLEN", rename},
		{"strlen", "Redis refuses STRLEN", rebind},
		{"strlen", "Redis refuses STRLEN", move},
	} {
		space := c.config.From.Namespace
		if c.config.DeleteOld {
			space = c.config.To.Namespace
		}
		// A command may be refused after the run has tested it, so this user may call it only on the names of the tests.
		probe := "(+" + c.command + " ~" + space + ":sealcache.*)"
		as := func(selectors ...any) redis.UniversalClient {
			rules := []any{"acl", "setuser", "restricted", "reset", "on", ">secret", "~*", "+@all", "-" + c.command}
			require.NoError(t, admin.Do(ctx, append(rules, selectors...)...).Err())
			o := *server.ClientOptions()
			o.Username, o.Password = "restricted", "secret"
			client := redis.NewClient(&o)
			t.Cleanup(func() { _ = client.Close() })
			return client
		}
		before := scanned(t, admin, "*")
		for _, dry := range []bool{true, false} {
			c.config.DryRun = dry
			_, err := migrate.Run(ctx, as(), c.config)
			require.ErrorContains(t, err, c.names, space)
		}
		r, err := migrate.Run(ctx, as(probe), c.config)
		require.Regexp(t, "permissions|user executing the script", err, space)
		require.Zero(t, r.KeptChanging, space)
		require.Subset(t, scanned(t, admin, "*"), before, space) // a move may have written the copy
	}
}

// The same in a Cluster. Without CLUSTER NODES nothing is done, since whether slots move is not known.
func TestPermissionsInACluster(t *testing.T) {
	t.Parallel()
	cluster := redistest.StartCluster(t)
	ctx, rdb := t.Context(), cluster.Client(t)
	rules := "resetkeys -@all ~* +scan +info +strlen +get +mget +type +getrange +exists +set +evalsha +eval +cluster|slots +asking " +
		"+ping +hello +client +command"
	as := func(rules string) *redis.ClusterClient {
		for _, s := range cluster.Nodes() {
			args := []any{"acl", "setuser", "mover", "reset", "on", ">secret"}
			for _, r := range strings.Fields(rules) {
				args = append(args, r)
			}
			require.NoError(t, s.Client(t).Do(ctx, args...).Err())
		}
		opts := cluster.ClientOptions()
		opts.Username, opts.Password = "mover", "secret"
		c := redis.NewClusterClient(opts)
		t.Cleanup(func() { _ = c.Close() })
		return c
	}
	fill(t, rdb, "rights", 50)
	config := migrate.Config{Operation: migrate.Seal, From: migrate.Space{Namespace: "rights"}, Keys: sealtest.Keyring(t)}
	var logs sealtest.Logs
	config.Logger = logs.Logger()
	r, err := migratetest.Unproven(ctx, as(rules), config)
	require.ErrorContains(t, err, "CLUSTER NODES")
	require.Zero(t, r.Seen)
	require.NotContains(t, logs.String(), "tried again", "it does not go away by waiting")

	allowed := as(rules + " +cluster|nodes")
	r = run(t, allowed, config)
	require.EqualValues(t, 50, r.Written)
	answer, why := audited(t, allowed, audit.Config{}).AnythingPlaintext()
	require.Equal(t, audit.No, answer, why)
}
