package redisstore

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/push"
)

// NearCache keeps replies of Redis in the process, so that frequent reads take no round trip. It holds the same bytes as
// Redis: under middleware.Store they are sealed. The URL options near_cache and near_cache_max_staleness of Open make one.
// For a client of your own, set it as Options.ClientSideCache and give the client to New:
//
//	near, err := redisstore.NewNearCache(64<<20, 5*time.Second)
//	client := redis.NewClient(&redis.Options{Addr: addr, ContextTimeoutEnabled: true, ClientSideCache: near})
//	s, err := redisstore.New(client)
//
// It is the client-side caching of go-redis, which is experimental there. Redis tells each connection which of its keys have
// changed. A client never reads a stale value after its own write. Each write removes its keys from the near cache before it
// is sent, and again after the reply. This includes scripts, transactions and pipelines. Writes of other clients are usually
// seen within milliseconds, and always within the maximum staleness. An expired entry may be read for that long. Swaps, the
// reads before them, reads with TTLs, and batches do not use the near cache.
//
// A NearCache serves one client of one server. New refuses a database other than 0, RESP2, a provider of credentials and
// a push processor of the application. With them, go-redis would not cache, or would serve stale values. If the server
// does not offer tracking, each read asks the server.
//
// All methods are safe for concurrent use.
type NearCache struct {
	*redis.LocalCache
	log atomic.Pointer[slog.Logger]

	mu     sync.Mutex
	owner  *redis.Options         // the options of the client that uses it, nil for none
	prefix atomic.Pointer[string] // of go-redis's names for Redis keys, nil before it is in use
	warned sync.Once
}

// leastNearBytes is the smallest near cache. go-redis keeps no value above a sixteenth of the size.
const leastNearBytes = 1 << 20

// NewNearCache returns a near cache of at most maxBytes, by go-redis's estimate, at least 1 MiB. A value above a sixteenth of
// that is not kept. No reply is served for longer than maxStaleness after it was read, also if the server fails.
func NewNearCache(maxBytes int64, maxStaleness time.Duration) (*NearCache, error) {
	switch {
	case maxBytes < leastNearBytes:
		return nil, fmt.Errorf("redisstore: NewNearCache: maxBytes must be at least %d", leastNearBytes)
	case maxStaleness <= 0:
		return nil, errors.New("redisstore: NewNearCache: maxStaleness must be positive")
	}
	return &NearCache{LocalCache: redis.NewLocalCache(redis.CacheConfig{MaxMemoryBytes: maxBytes, MaxStaleness: maxStaleness})}, nil
}

// String names the type, and shows no content.
func (n *NearCache) String() string { return "redisstore.NearCache" }

// GoString returns String.
func (n *NearCache) GoString() string { return n.String() }

// nearCacheOf returns the near cache of a client, or nil.
func nearCacheOf(o *redis.Options) *NearCache {
	if o == nil {
		return nil
	}
	n, _ := o.ClientSideCache.(*NearCache)
	return n
}

// use prepares the near cache for its client.
func (n *NearCache) use(client redis.UniversalClient, o *redis.Options, log *slog.Logger) error {
	switch {
	case n.LocalCache == nil:
		return errors.New("near cache: the NearCache is a zero value (make it with NewNearCache)")
	case o.DB != 0:
		return errors.New("near cache: the Redis client must use database 0 (set DB to 0)")
	case o.Protocol != 3:
		return errors.New("near cache: the Redis client must use the protocol RESP3 (set Protocol to 3)")
	case o.CredentialsProvider != nil || o.CredentialsProviderContext != nil || o.StreamingCredentialsProvider != nil:
		return errors.New("near cache: the Redis client has a CredentialsProvider (set Password instead)")
	case !builtIn(o.PushNotificationProcessor):
		return errors.New("near cache: the Redis client has the option PushNotificationProcessor (leave the option unset)")
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	switch n.owner {
	case o:
		return nil
	case nil:
	default:
		return errors.New("near cache: another Redis client uses the same NearCache (make one for each client)")
	}
	n.owner = o
	n.log.Store(log)
	client.AddHook(&dropWritten{near: n, reach: reachOfCommands()})
	// go-redis names a Redis key by its database and user. Reserve checks that.
	prefix := "0\x00" + strconv.Itoa(len(o.Username)) + ":" + o.Username + "\x00"
	n.prefix.Store(&prefix)
	return nil
}

// builtIn reports whether the processor is the built-in one of go-redis, which caching needs.
func builtIn(p push.NotificationProcessor) bool {
	if p == nil {
		return true
	}
	_, ok := p.(*push.Processor)
	return ok
}

// Reserve lets go-redis fetch a reply and keep it. It does not keep replies that a write could not drop. These are
// replies of a client that no Store uses, and those of a go-redis release whose names for keys this package does not
// know.
func (n *NearCache) Reserve(cacheKey string, redisKeys []string) (token uint64, shouldFetch bool) {
	prefix := n.prefix.Load()
	if prefix == nil {
		return 0, true
	}
	for _, key := range redisKeys {
		if !strings.HasPrefix(key, *prefix) {
			n.warned.Do(func() {
				n.log.Load().Error("redisstore: the near cache is off, because this release of go-redis is unknown (update sealcache)")
			})
			return 0, true
		}
	}
	return n.LocalCache.Reserve(cacheKey, redisKeys)
}

// drop removes the replies for keys, including replies that are being fetched.
func (n *NearCache) drop(w written) {
	if w.all {
		n.Flush()
		return
	}
	prefix := n.prefix.Load()
	if prefix == nil {
		return
	}
	for _, key := range w.keys {
		n.DeleteByRedisKey(*prefix + key)
	}
}

// dropWritten is a hook that drops what commands write, before they are sent and after their replies. A read that starts
// between the two may return the old value, and is not kept.
type dropWritten struct {
	near  *NearCache
	reach map[string]reach
}

// DialHook implements redis.Hook.
func (d *dropWritten) DialHook(next redis.DialHook) redis.DialHook { return next }

// ProcessHook implements redis.Hook.
func (d *dropWritten) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		var w written
		if w.add(d.reach, cmd); w.nothing() {
			return next(ctx, cmd)
		}
		d.near.drop(w)
		defer d.near.drop(w)
		return next(ctx, cmd)
	}
}

// ProcessPipelineHook implements redis.Hook.
func (d *dropWritten) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		var w written
		for _, cmd := range cmds {
			w.add(d.reach, cmd)
		}
		if w.nothing() {
			return next(ctx, cmds)
		}
		d.near.drop(w)
		defer d.near.drop(w)
		return next(ctx, cmds)
	}
}
