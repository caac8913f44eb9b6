// Package redisstore is a gocache store for Redis: a single node, Sentinel or Cluster. gocache is github.com/eko/gocache.
// It does not encrypt: package middleware seals the values before they reach it.
//
// Call [New] instead of gocache's redis.NewRedis. It returns a store for a go-redis client of the application. [Open] makes
// the client from a URL, and Close of the store closes it. [OpenClient] returns only the client.
//
//	s, err := redisstore.Open(ctx, "rediss://app@redis:6379/0?password_file=/run/secrets/redis&expiration=10m")
//
// In addition to gocache's interface, a Store has these features:
//
//   - It returns bytes that the caller may change.
//   - [Store.GetBytesMax] does not read a value that is larger than a limit.
//   - [Store.CompareAndSwap] replaces a value atomically.
//   - [Store.GetWithTTL] returns value and TTL in one round trip. The TTL is exact to the millisecond.
//   - [Store.Keys] lists entries by prefix, and [Store.ClearPrefix] deletes them by prefix.
//
// A Store is safe for concurrent use. The text of an error contains no key and no value. To find errors of go-redis and of
// the context, use errors.Is and errors.As.
//
// # Tags
//
// gocache can give an entry tags. Invalidate deletes the entries that have one of the given tags. For each tag, Redis
// holds a set with the names of its entries.
//
// On a single node, an entry and its tags are written in one step. So an entry never lacks its tags.
//
// In a Cluster, an entry and the sets of its tags can be on different nodes. When Set returns without an error, the entry
// has its tags. An entry can lack tags only in two cases:
//
//   - A process dies inside Set while another process invalidates the same tag. The entry can lack this tag.
//   - A process dies inside SetIfNotExists, which writes the tags after the entry. The entry can lack all tags.
//
// Redis can evict the set of a tag. Invalidate then misses entries. So if you set maxmemory, set maxmemory-policy to
// noeviction or volatile-ttl. [Store.Advice] reports any other policy.
//
// When an entry expires or is deleted, its name stays in the sets of its tags. This only uses memory. [Store.PruneTags]
// removes such names.
//
// CompareAndSwap does not change tags. If it gives an entry a longer TTL, call [Store.ExtendTags] before it.
//
// # Differences from gocache's Redis store
//
// Both stores can work on the same Redis at the same time, because they use the same keys, values and sets of tags. They
// differ as follows:
//
//   - Get and GetWithTTL return a []byte, not a string.
//   - A cache key that is not a string is an error. gocache's store panics.
//   - GetWithTTL returns 0 for an entry without expiration. gocache's store returns -1ns.
//   - Expirations are exact to the millisecond, rounded up. An expiration of 0 or -1ns means none. Any other negative one
//     is an error.
//   - Set and Invalidate return the errors of writing tags. gocache's store drops them.
//   - No tag is lost when several clients write it at once.
//   - The set of a tag lives at least as long as its entries. With TagsTTL, an entry without expiration can outlive the
//     set. If gocache's own store writes the same tag, it shortens the life of the set to 720 h.
//   - Invalidate deletes only Redis keys of the type string, even if the set of a tag contains other names.
//   - Set and Delete refuse a key that is the name of a tag's set.
//   - Clear empties the selected database on every master. gocache's store empties all databases of one master.
//
// # Replicas and Clusters
//
// Some options of a Cluster client let it read from replicas: ReadOnly, RouteByLatency and RouteRandomly. With them, a
// read of one value can return a deleted entry. All other operations use the masters.
//
// A client for a single node can be connected to one node of a Cluster by mistake. It would see only a part of the
// entries. So Clear, ClearPrefix, Keys and PruneTags then return an error.
//
// # Combined calls
//
// When many goroutines call a Store, it sends several calls in one pipeline: together, in one round trip. This is faster.
// It does this for Get, GetBytesMax and Delete, and for Set without tags, with values up to 64 KiB. [Config] and the URL
// option combine=off disable this.
//
// Up to a limit, each call uses its own connection. Calls above the limit wait. When a running call finishes, the Store
// sends the waiting calls in one pipeline. So a Store never delays a call to collect more calls. The limit for each master
// is the smaller of PoolSize and MaxActiveConns, but at most 64. If the server is on the same host, the limit is at most
// 8, and at most 4 while more than 8 goroutines call.
//
// With a client of your own, set MaxActiveConns to at least PoolSize. Otherwise go-redis refuses calls that find no free
// connection, and does not let them wait.
//
// If the context of a call ends while the call waits, the Store does not send it. If the context of a write ends later,
// the error says that its result is unknown: Redis can still execute the write. [Store.Stats] counts pipelines.
//
// Hooks of the client see a pipeline under the context values of one of its calls. Its writes, and in a Cluster also its
// reads, do not have the types of go-redis there, such as *redis.StatusCmd. In a Cluster, a pipeline can end with
// context.Canceled for hooks if a node redirects one of its commands. The other commands can have succeeded, and the Store
// repeats the redirected one. A hook must not call the Store: it could deadlock.
//
// # Near cache
//
// A near cache serves frequent reads from the memory of the process. It holds the same bytes as Redis. To use it, set the
// URL options near_cache and near_cache_max_staleness, or call [NewNearCache]. [NearCache] describes how old its values
// can be.
//
// # Retries and deadlines
//
// If a connection breaks, go-redis repeats the command. So Redis can execute a command twice. The Store sends
// CompareAndSwap and SetIfNotExists only once, because the second execution would report false for a successful write. If
// their error is not a reply of the server, the outcome is unknown.
//
// A call ends at the deadline of its context only if the client has ContextTimeoutEnabled. [Open] sets it. If a context is
// canceled, a call that waits for a reply ends at the latest after ReadTimeout.
//
// # Permissions
//
// Give an ACL user whose entries and tags start with "shop:" these rights. They are for all methods but Clear, and some are
// optional, as listed below.
//
//	ACL SETUSER app on >password ~shop:* ~gocache_tag_shop:* -@all
//	    +ping +get +set +unlink +pttl +type +multi +exec +eval +evalsha +exists +strlen +getrange
//	    +sadd +srem +sismember +sscan +pexpire +persist +scan +info
//
// The pattern ~gocache_tag_shop:* is for the sets of tags. Some uses need more rights:
//
//   - a near cache: +client|tracking
//   - a database other than 0: +select
//   - a client_name: +client|setname
//   - Clear: +flushdb
//   - a Cluster: +cluster|slots, +command and +asking, and +readonly for a client that reads from replicas
//
// Some rights are optional:
//
//   - info: without it, a scan detects neither a restart of the server nor a node of a Cluster.
//   - multi and exec: grant both or neither. Without them, a script reads values with TTLs, which is slower for large
//     values.
//   - An application without tags, swaps and listing needs only ping, get, set, unlink, pttl, multi and exec.
package redisstore
