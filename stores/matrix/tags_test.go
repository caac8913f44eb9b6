package matrix

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/allegro/bigcache/v3"
	"github.com/bradfitz/gomemcache/memcache"
	"github.com/coocood/freecache"
	"github.com/dgraph-io/ristretto/v2"
	"github.com/eko/gocache/lib/v4/store"
	bigcachestore "github.com/eko/gocache/store/bigcache/v4"
	freecachestore "github.com/eko/gocache/store/freecache/v4"
	gocachestore "github.com/eko/gocache/store/go_cache/v4"
	memcachestore "github.com/eko/gocache/store/memcache/v4"
	redisstore "github.com/eko/gocache/store/redis/v4"
	clusterstore "github.com/eko/gocache/store/rediscluster/v4"
	ristrettostore "github.com/eko/gocache/store/ristretto/v4"
	rueidisstore "github.com/eko/gocache/store/rueidis/v4"
	gocache "github.com/patrickmn/go-cache"
	"github.com/redis/go-redis/v9"
	"github.com/redis/rueidis"

	"github.com/sealcache/sealcache/internal/redistest"
	"github.com/sealcache/sealcache/middleware"
	"github.com/sealcache/sealcache/stores/memorystore"
	ownredis "github.com/sealcache/sealcache/stores/redisstore"
)

// caches returns the caches that gocache's bigcache and ristretto stores keep entries in.
func caches(t *testing.T) (*bigcache.BigCache, *ristretto.Cache[string, []byte]) {
	t.Helper()
	config := bigcache.DefaultConfig(time.Hour)
	config.Shards, config.CleanWindow, config.Verbose = 16, 0, false
	big, err := bigcache.New(context.Background(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := big.Close(); err != nil {
			t.Error(err)
		}
	})
	ris, err := ristretto.NewCache(&ristretto.Config[string, []byte]{NumCounters: 1e4, MaxCost: 1 << 20, BufferItems: 64})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(ris.Close)
	return big, ris
}

// inProcess returns gocache's stores that keep entries in the process.
func inProcess(t *testing.T) map[string]store.StoreInterface {
	t.Helper()
	big, ris := caches(t)
	return map[string]store.StoreInterface{
		"bigcache":  bigcachestore.NewBigcache(big),
		"freecache": freecachestore.NewFreecache(freecache.NewCache(1 << 20)),
		"go_cache":  gocachestore.NewGoCache(gocache.New(gocache.NoExpiration, 0)),
		"ristretto": ristrettostore.NewRistretto(ris, store.WithSynchronousSet()),
	}
}

// overMemcached returns gocache's memcache store, and a function that stops its server.
func overMemcached(t *testing.T) (backing store.StoreInterface, stop func() error) {
	t.Helper()
	socket, kill := startMemcachedToStop(t)
	client := memcache.New(socket)
	client.Timeout = time.Minute
	t.Cleanup(func() {
		if err := client.Close(); err != nil {
			t.Error(err)
		}
	})
	return memcachestore.NewMemcache(client), func() error {
		kill()
		return nil
	}
}

// overRueidis returns gocache's rueidis store. Its client asks the server for each read.
func overRueidis(t *testing.T, server *redistest.Server) store.StoreInterface {
	t.Helper()
	client, err := rueidis.NewClient(rueidis.ClientOption{InitAddress: []string{server.Addr()}, DisableCache: true, DisableRetry: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return rueidisstore.NewRueidis(client, store.WithExpiration(time.Hour))
}

// gocacheStores returns all stores of gocache.
func gocacheStores(t *testing.T) map[string]store.StoreInterface {
	t.Helper()
	all, server := inProcess(t), redistest.Start(t)
	all["memcache"], _ = overMemcached(t)
	all["redis"] = redisstore.NewRedis(server.Client(t))
	all["rueidis"] = overRueidis(t, redistest.Start(t))
	all["rediscluster"] = clusterstore.NewRedisCluster(redistest.StartCluster(t).Client(t))
	return all
}

func tagged(tags ...string) []store.Option {
	return []store.Option{store.WithTags(tags), store.WithExpiration(time.Hour)}
}

func invalidate(t *testing.T, s *middleware.Store, tags ...string) error {
	t.Helper()
	return s.Invalidate(t.Context(), store.WithInvalidateTags(tags))
}

// mustSet fails the test if the entry is not set.
func mustSet(t *testing.T, s *middleware.Store, key string, opts ...store.Option) {
	t.Helper()
	if err := s.Set(t.Context(), key, "value", opts...); err != nil {
		t.Fatalf("%s: set %q: %v", s.GetType(), key, err)
	}
}

// wantEntry checks whether there is an entry.
func wantEntry(t *testing.T, s *middleware.Store, key string, want bool) {
	t.Helper()
	_, err := s.Get(t.Context(), key)
	if err != nil && !errors.Is(err, store.NotFound{}) || (err == nil) != want {
		t.Errorf("%s: get %q: %v; there should be an entry: %v", s.GetType(), key, err, want)
	}
}

// Some stores keep the keys of a tag in one value, joined by commas. Invalidate would not find a key that contains a comma, and would
// delete the entries that its parts name.
func TestTagsOfKeysWithCommas(t *testing.T) {
	t.Parallel()
	all := gocacheStores(t)
	all["redisstore"] = openRedisstore(t)
	all["memorystore"] = openMemorystore(t)
	for name, backing := range all {
		key := envelope(t)
		shop, bank := seal(t, backing, key, "shop"), seal(t, backing, key, "bank")
		const comma = "a,bank:1,b"
		mustSet(t, bank, "1", store.WithExpiration(time.Hour))
		mustSet(t, shop, comma, store.WithExpiration(time.Hour))
		err := shop.Set(t.Context(), comma, "new", tagged("t")...)
		switch name {
		case "bigcache", "freecache", "memcache", "ristretto":
			if !errors.Is(err, middleware.ErrUnsupported) || !strings.Contains(err.Error(), "tags of a key that contains a comma") {
				t.Errorf("%s: set with a tag: %v", name, err)
			}
			if value, err := shop.Get(t.Context(), comma); value != "value" {
				t.Errorf("%s: a Set that was refused wrote %v, %v", name, value, err)
			}
			var batch *middleware.BatchError
			if err := shop.SetMany(t.Context(), map[string]any{comma: "new"}, tagged("t")...); !errors.As(err, &batch) {
				t.Errorf("%s: set many with a tag: %v", name, err)
			}
		default:
			if err != nil {
				t.Errorf("%s: set with a tag: %v", name, err)
			}
			if err := invalidate(t, shop, "t"); err != nil {
				t.Errorf("%s: invalidate: %v", name, err)
			}
			wantEntry(t, shop, comma, false)
		}
		wantEntry(t, bank, "1", true)
	}
}

// An entry must not overwrite the list of a tag, or Invalidate would miss the entries of the tag.
func TestNamesOfTagLists(t *testing.T) {
	t.Parallel()
	for name, backing := range gocacheStores(t) {
		s := seal(t, backing, envelope(t), "")
		list := "gocache_tag_t"
		if name == "freecache" {
			list = "freecache_tag_t"
		}
		mustSet(t, s, "user:1", tagged("t")...)
		calls := map[string]error{
			"set":    s.Set(t.Context(), list, "value", store.WithExpiration(time.Hour)),
			"delete": s.Delete(t.Context(), list),
		}
		if name == "redis" {
			_, calls["set if absent"] = s.SetIfNotExists(t.Context(), list, "value")
		}
		for call, err := range calls {
			if !errors.Is(err, middleware.ErrUnsupported) || !strings.Contains(err.Error(), "the key is reserved for a tag's list") {
				t.Errorf("%s: %s: %v", name, call, err)
			}
		}
		if err := invalidate(t, s, "t"); err != nil {
			t.Errorf("%s: invalidate: %v", name, err)
		}
		wantEntry(t, s, "user:1", false)
	}
}

// A store must not report success for a tag under whose name it cannot keep a list.
func TestUnusableTags(t *testing.T) {
	t.Parallel()
	mem, _ := overMemcached(t)
	all := map[string]store.StoreInterface{"memcache": mem}
	in := inProcess(t)
	all["freecache"], all["bigcache"] = in["freecache"], in["bigcache"]
	for name, backing := range all {
		s := seal(t, backing, envelope(t), "shop")
		bad := []string{strings.Repeat("t", 1<<16)}
		if name == "memcache" {
			bad = []string{"a b", "a\x00", "a\x7f", "a\n", strings.Repeat("t", 250-len("gocache_tag_shop:")+1)}
			longest := strings.Repeat("t", 250-len("gocache_tag_shop:"))
			mustSet(t, s, "longest", tagged(longest, "ümlaut")...)
			if err := invalidate(t, s, longest); err != nil {
				t.Error(err)
			}
			wantEntry(t, s, "longest", false)
		}
		for _, tag := range bad {
			for call, err := range map[string]error{
				"set":        s.Set(t.Context(), "user:1", "value", tagged(tag)...),
				"invalidate": invalidate(t, s, tag),
			} {
				if !errors.Is(err, middleware.ErrUnsupported) || !strings.Contains(err.Error(), "a tag is too long or has a space or control byte") {
					t.Errorf("%s: %s with the tag %.20q: %v", name, call, tag, err)
				}
			}
			wantEntry(t, s, "user:1", false)
		}
	}
}

// Some stores stop at the first tag without entries, or fail.
func TestInvalidateSeveralTags(t *testing.T) {
	t.Parallel()
	for name, backing := range gocacheStores(t) {
		s := seal(t, backing, envelope(t), "shop")
		mustSet(t, s, "user:1", tagged("t")...)
		for _, tags := range [][]string{{"unknown", "t"}, {"unknown"}, {"t"}} {
			if err := invalidate(t, s, tags...); err != nil {
				t.Errorf("%s: invalidate %q: %v", name, tags, err)
			}
		}
		wantEntry(t, s, "user:1", false)
	}
}

// gocache's stores drop the errors of Invalidate. An outage, and a list that is not one, must not pass as success.
func TestInvalidateReportsFailures(t *testing.T) {
	t.Parallel()
	server, other := redistest.Start(t), redistest.Start(t)
	client := redis.NewClient(&redis.Options{Addr: server.Addr(), MaxRetries: -1})
	t.Cleanup(func() {
		if err := client.Close(); err != nil {
			t.Error(err)
		}
	})
	mem, stopMemcached := overMemcached(t)
	for name, down := range map[string]struct {
		backing store.StoreInterface
		stop    func() error
		plant   func() error
	}{
		"memcache": {mem, stopMemcached, nil},
		"redis": {redisstore.NewRedis(client), server.Stop, func() error {
			return client.Set(t.Context(), "gocache_tag_shop:planted", "value", 0).Err()
		}},
		"rueidis": {overRueidis(t, other), other.Stop, func() error {
			return other.Client(t).Set(t.Context(), "gocache_tag_shop:planted", "value", 0).Err()
		}},
	} {
		s := seal(t, down.backing, envelope(t), "shop")
		mustSet(t, s, "user:1", tagged("t")...)
		if err := invalidate(t, s, "t", "unknown"); err != nil {
			t.Errorf("%s: invalidate: %v", name, err)
		}
		wantEntry(t, s, "user:1", false)
		if down.plant != nil {
			if err := down.plant(); err != nil {
				t.Fatal(err)
			}
			if err := invalidate(t, s, "planted"); err == nil || !strings.Contains(err.Error(), "the Redis key of a tag's list of entries holds a string") {
				t.Errorf("%s: invalidate with a planted value: %v", name, err)
			}
		}
		mustSet(t, s, "user:1", tagged("t")...)
		if err := down.stop(); err != nil {
			t.Fatal(err)
		}
		if err := invalidate(t, s, "t"); err == nil {
			t.Errorf("%s: invalidate: no error, but the server is down", name)
		}
		if err := invalidate(t, s, "t", "u", "v"); err == nil || !strings.Contains(err.Error(), "of 3 tags could not be invalidated: ") {
			t.Errorf("%s: invalidate three tags: %v", name, err)
		}
	}
}

// Tags among the options of a store escape the checks of tags. With the first three stores, they end the process of an
// application that calls gocache directly.
func TestDefaultTagsOfAStore(t *testing.T) {
	t.Parallel()
	big, ris := caches(t)
	client := memcache.New(startMemcached(t))
	client.Timeout = time.Minute
	t.Cleanup(func() {
		if err := client.Close(); err != nil {
			t.Error(err)
		}
	})
	tags := store.WithTags([]string{"default"})
	for name, backing := range map[string]store.StoreInterface{
		"bigcache":  bigcachestore.NewBigcache(big, tags),
		"freecache": freecachestore.NewFreecache(freecache.NewCache(1<<20), tags),
		"ristretto": ristrettostore.NewRistretto(ris, tags, store.WithSynchronousSet()),
		"memcache":  memcachestore.NewMemcache(client, tags),
	} {
		for kind, opts := range map[string][]store.Option{"untagged": nil, "tagged": tagged("t")} {
			s := seal(t, backing, envelope(t), "shop")
			for range 2 {
				err := s.Set(t.Context(), "a,b", "value", opts...)
				if !errors.Is(err, middleware.ErrUnsupported) {
					t.Errorf("%s: %s set: %v", name, kind, err)
				}
			}
		}
	}
}

func openRedisstore(t *testing.T) store.StoreInterface {
	t.Helper()
	s, err := ownredis.New(redistest.Start(t).Client(t))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func openMemorystore(t *testing.T) store.StoreInterface {
	t.Helper()
	s, err := memorystore.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}
