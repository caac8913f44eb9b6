package middleware_test

import (
	"errors"
	"testing"

	"github.com/eko/gocache/lib/v4/store"
	gocacheredis "github.com/eko/gocache/store/redis/v4"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	canaries "github.com/sealcache/sealcache/internal/leaktest"
	"github.com/sealcache/sealcache/internal/redistest"
	"github.com/sealcache/sealcache/middleware"
)

func TestRedisOutOfMemory(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, "--maxmemory-policy", "noeviction")
	f := newFaulty(t, overRedis(t, server, fewRetries...), middleware.WithNamespace("full"))
	require.NoError(t, f.Set(t.Context(), "before", "value"))
	require.NoError(t, f.Set(t.Context(), f.key, f.value))
	admin := server.Client(t)
	require.NoError(t, admin.ConfigSet(t.Context(), "maxmemory", "1").Err())

	f.requireFailures(t, replied("OOM"), "Get", "GetWithTTL", "Delete", "Invalidate", "Check", "Keys")
	v, err := f.Get(t.Context(), f.key)
	require.NoError(t, f.said.err(err), "reading works")
	require.Equal(t, f.value, v, "what was there stays what it was")
	require.NoError(t, f.said.err(f.Check(t.Context())))
	require.NoError(t, f.said.err(f.Delete(t.Context(), "before")), "deleting works")
	require.NoError(t, f.said.err(f.Invalidate(t.Context(), store.WithInvalidateTags([]string{"tag"}))))

	require.NoError(t, admin.ConfigSet(t.Context(), "maxmemory", "0").Err())
	f.requireWorks(t)
	f.said.requireNoSecrets(t)
}

// A process is connected to the former master.
func TestRedisReadOnly(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	f := newFaulty(t, overRedis(t, server, fewRetries...), middleware.WithNamespace("replica"))
	f.requireWorks(t)
	require.NoError(t, f.Set(t.Context(), f.key, f.value, store.WithTags([]string{f.key})))
	admin := server.Client(t)
	require.NoError(t, admin.Do(t.Context(), "replicaof", "127.0.0.1", "1").Err())

	f.requireFailures(t, replied("READONLY"), "Get", "GetWithTTL", "Check", "Keys")
	require.True(t, replied("READONLY")(f.said.err(f.Clear(t.Context()))))
	v, err := f.Get(t.Context(), f.key)
	require.NoError(t, f.said.err(err), "a replica can be read")
	require.Equal(t, f.value, v)

	require.NoError(t, admin.Do(t.Context(), "replicaof", "no", "one").Err())
	f.requireWorks(t)
	f.said.requireNoSecrets(t)
}

// Another program uses the same names for lists, sets and hashes.
func TestWrongTypeUnderAKey(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	for name, backing := range overBoth(t, server) {
		for _, opts := range [][]middleware.Option{nil, {middleware.WithMissOnOpenFailure()}, {middleware.WithPlaintext(middleware.ReadPlaintext)}} {
			f := newFaulty(t, backing, opts...)
			other := server.Client(t)
			for kind, plant := range map[string]func(key string) error{
				"list": func(k string) error { return other.RPush(t.Context(), k, f.value).Err() },
				"set":  func(k string) error { return other.SAdd(t.Context(), k, f.value).Err() },
				"hash": func(k string) error { return other.HSet(t.Context(), k, f.value, f.value).Err() },
				"zset": func(k string) error { return other.ZAdd(t.Context(), k, redis.Z{Member: f.value}).Err() },
				"stream": func(k string) error {
					return other.XAdd(t.Context(), &redis.XAddArgs{Stream: k, Values: []string{f.value, f.value}}).Err()
				},
			} {
				require.NoError(t, other.Del(t.Context(), f.key).Err())
				require.NoError(t, plant(f.key))
				_, err := f.Get(t.Context(), f.key)
				require.True(t, replied("WRONGTYPE")(f.said.err(err)), "%s, %s: %v", name, kind, err)
				_, _, err = f.GetWithTTL(t.Context(), f.key)
				require.True(t, replied("WRONGTYPE")(f.said.err(err)), "%s, %s: %v", name, kind, err)
				written, err := f.SetIfNotExists(t.Context(), f.key, f.value)
				require.False(t, written, "%s, %s", name, kind)
				if err != nil {
					require.True(t, replied("WRONGTYPE")(f.said.err(err)), "%s, %s: %v", name, kind, err)
				}
				kept, err := other.Type(t.Context(), f.key).Result()
				require.NoError(t, err)
				require.Equal(t, kind, kept, "reading changes nothing")
			}
			require.NoError(t, f.Set(t.Context(), f.key, f.value), "SET replaces any value, as in Redis")
			v, err := f.Get(t.Context(), f.key)
			require.NoError(t, err)
			require.Equal(t, f.value, v)
			f.said.requireNoSecrets(t)
		}
	}

	// If a string has the name of a tag's set, redisstore returns an error. It does not write an entry that the tag would
	// not find.
	f := newFaulty(t, overRedis(t, server))
	require.NoError(t, server.Client(t).Set(t.Context(), "gocache_tag_"+f.key, f.value, 0).Err())
	tagged := store.WithTags([]string{f.key})
	require.True(t, replied("WRONGTYPE")(f.said.err(f.Set(t.Context(), f.key, f.value, tagged))))
	_, err := f.SetIfNotExists(t.Context(), f.key, f.value, tagged)
	require.True(t, replied("WRONGTYPE")(f.said.err(err)))
	require.True(t, replied("WRONGTYPE")(f.said.err(f.Invalidate(t.Context(), store.WithInvalidateTags([]string{f.key})))))
	_, err = f.Get(t.Context(), f.key)
	require.ErrorIs(t, err, store.NotFound{})
	f.said.requireNoSecrets(t)
}

// patientClient returns a client that does not send a command again because the machine is busy.
func patientClient(t testing.TB, server *redistest.Server) *redis.Client {
	t.Helper()
	o := server.ClientOptions()
	o.ReadTimeout, o.WriteTimeout = patience, patience
	rdb := redis.NewClient(o)
	t.Cleanup(func() { _ = rdb.Close() })
	return rdb
}

// overBoth returns the two stores over a single Redis: redisstore and gocache's own.
func overBoth(t testing.TB, server *redistest.Server) map[string]store.StoreInterface {
	t.Helper()
	return map[string]store.StoreInterface{
		"redisstore":    overRedis(t, server),
		"gocache redis": gocacheredis.NewRedis(patientClient(t, server)),
	}
}

func TestWrongPassword(t *testing.T) {
	t.Parallel()
	var secrets canaries.Set
	right, wrong := secrets.Text("password"), secrets.Text("wrong password")
	server := redistest.StartWith(t, redistest.Options{Password: right})
	u := "redis://:" + wrong + "@" + server.Addr() + "/0"
	f := newFaulty(t, overURL(t, u, fewRetries...), middleware.WithNamespace("locked"))
	f.said.secrets.AddText("password", right)
	f.said.secrets.AddText("wrong password", wrong)
	f.requireFailures(t, replied("WRONGPASS"))
	nowhere := newFaulty(t, overURL(t, "redis://:"+right+"@"+server.Addr()+"/99", fewRetries...))
	nowhere.requireFailures(t, replied("DB index"))
	none := newFaulty(t, overURL(t, "redis://"+server.Addr()+"/0", fewRetries...), middleware.WithNamespace("locked"))
	none.requireFailures(t, replied("NOAUTH"))

	// The operator repairs the server, and the process continues.
	require.NoError(t, server.Client(t).ConfigSet(t.Context(), "requirepass", wrong).Err())
	f.requireWorks(t)
	f.said.requireNoSecrets(t)
	none.said.requireNoSecrets(t)
	clients, err := redisClientList(t, server.Addr(), wrong)
	require.NoError(t, err)
	require.LessOrEqual(t, countLines(clients), 2*(8+pipelinePool)+2, "refused connections are left behind")
}

func redisClientList(t *testing.T, addr, password string) (string, error) {
	t.Helper()
	rdb := redis.NewClient(&redis.Options{Addr: addr, Password: password})
	t.Cleanup(func() { _ = rdb.Close() })
	return rdb.ClientList(t.Context()).Result()
}

// A server has reached its limit of clients.
func TestRedisFullOfClients(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	admin := server.Client(t)
	require.NoError(t, admin.ConfigSet(t.Context(), "maxclients", "1").Err())
	for _, c := range []struct {
		backing store.StoreInterface
		except  []string
	}{
		{overRedis(t, server, fewRetries...), nil},
		{gocacheredis.NewRedis(patientClient(t, server)), []string{"Invalidate", "Keys"}}, // it drops errors, and cannot enumerate
	} {
		f := newFaulty(t, c.backing)
		f.requireFailures(t, func(err error) bool { return replied("max number of clients")(err) || unreached(err) }, c.except...)
		require.NoError(t, admin.ConfigSet(t.Context(), "maxclients", "100").Err())
		f.requireWorks(t)
		f.said.requireNoSecrets(t)
		require.NoError(t, admin.ConfigSet(t.Context(), "maxclients", "1").Err())
	}
}

// An ACL user has fewer rights than the store needs, or an operator has renamed commands. Redis quotes names and values
// in some of these replies.
func TestRedisRefusesCommands(t *testing.T) {
	t.Parallel()
	t.Run("ACL", func(t *testing.T) {
		t.Parallel()
		server := redistest.StartWith(t, redistest.Options{User: "app", Password: "secret", Rules: "~allowed:* +@all -@scripting"})
		for name, backing := range overBoth(t, server) {
			f := newFaulty(t, backing, middleware.WithNamespace("other"))
			f.requireFailures(t, func(err error) bool {
				return replied("NOPERM")(err) || errors.Is(err, middleware.ErrUnsupported)
			}, "Keys", "Invalidate", "Check")
			f.said.requireNoSecrets(t)
			f = newFaulty(t, backing, middleware.WithNamespace("allowed"))
			f.requireWorks(t)
			if name == "redisstore" {
				err := f.said.err(f.Set(t.Context(), f.key, f.value, store.WithTags([]string{"tag"})))
				require.True(t, replied("NOPERM")(err), "%v", err)
			}
			f.said.requireNoSecrets(t)
		}
	})
	t.Run("renamed", func(t *testing.T) {
		t.Parallel()
		server := redistest.Start(t, "--rename-command", "GET", "", "--rename-command", "SET", "", "--rename-command", "SETNX", "",
			"--rename-command", "DEL", "", "--rename-command", "UNLINK", "", "--rename-command", "EVALSHA", "", "--rename-command", "EVAL", "",
			"--rename-command", "SADD", "", "--rename-command", "SSCAN", "", "--rename-command", "SMEMBERS", "")
		for name, backing := range overBoth(t, server) {
			f := newFaulty(t, backing)
			f.requireFailures(t, func(err error) bool {
				return replied("unknown command")(err) || errors.Is(err, middleware.ErrUnsupported)
			}, "Keys", "Invalidate", "Check", "SetIfNotExists")
			_, err := f.SetIfNotExists(t.Context(), f.key, f.value)
			require.Error(t, f.said.err(err), name)
			_ = f.said.err(f.Invalidate(t.Context(), store.WithInvalidateTags([]string{f.key}))) // gocache's store drops the error
			f.said.requireNoSecrets(t)
		}
	})
}
