// Package redisstore is a gocache store over Redis: a single node, Sentinel or Cluster.
//
// [New] returns a store over a go-redis client of the application. It replaces gocache's redis.NewRedis. [Open] returns a
// store for a URL and owns its client. [OpenClient] returns the client of a URL, for code that needs Redis itself.
//
//	s, err := redisstore.Open(ctx, "rediss://app@redis:6379/0?password_file=/run/secrets/redis&expiration=10m")
//
// In addition to gocache's interface, a Store returns bytes that the caller owns, reads no value beyond a limit, swaps values
// atomically, loses no tag when several clients write it at once, returns TTLs to the millisecond in one round trip, enumerates entries and
// clears a prefix. A Store is safe for concurrent use. Its errors carry no key and no value, and unwrap to those of go-redis
// and of the context.
//
// # Differences from gocache's Redis store
//
// The keys, values and tag sets in Redis are the same ("gocache_tag_" and the tag), so that both stores can work on one
// Redis. The behaviour differs:
//
//   - Get and GetWithTTL return a []byte that the caller owns, not a string.
//   - A key that is not a string is an error, not a panic.
//   - TTLs have milliseconds, rounded up. GetWithTTL returns 0 for no expiry, where gocache returns -1ns. In options, 0 and
//     -1ns mean no expiry. Any other negative duration is an error.
//   - Errors of tagging and of invalidation are returned. The set of a tag expires no sooner than the entries that were set
//     with it, unless TagsTTL says otherwise. (gocache's own store on the same Redis cuts it to 720 h.)
//   - Invalidate removes strings only, whatever a tag's set names.
//   - Set and Delete refuse a key that is the name of a tag's set.
//   - Clear empties the selected database on every master. gocache empties all databases of one master.
//
// # Tags
//
// On a single node one script writes an entry and its tags, and one script removes a member and its entry, so that no entry
// is ever without its tags. In a Cluster entry and tags lie on different nodes. There Set writes the tags, the entry, and the
// tags again. Invalidate removes entries, then their memberships, then the entries again. When Set returns, the entry has its
// tags, also if the context has ended: the last step then gets two seconds more. Two cases remain in a Cluster. If a process
// dies between its steps while another invalidates the same tag, the entry can lack the tag. If it dies in SetIfNotExists,
// which tags only what it has written, the entry can lack all tags.
//
// Redis evicts tag sets like other keys. If maxmemory is set, use the maxmemory-policy noeviction, or volatile-ttl, which
// evicts first what expires first. Under every other policy an invalidation can miss entries whose tag set was evicted.
// [Store.Advice] reports such a policy, and middleware.Store's Check logs it.
//
// Memberships of expired and deleted entries stay until the tag is invalidated or its set expires. They only use
// memory. [Store.PruneTags] removes them. CompareAndSwap does not change tags: with a separate TTL an entry may
// outlive the sets of its tags.
//
// # Replicas and Clusters
//
// If a Cluster's client reads from replicas (ReadOnly, RouteByLatency, RouteRandomly), reads of single values do so, and may
// return removed entries. Everything else asks the masters. Clear, ClearPrefix, Keys and PruneTags refuse a single-node client
// of a Cluster node, because it would see a part of the entries. They ask INFO for that.
//
// # Combined calls
//
// Get, GetBytesMax, Delete and Set without tags are combined when many goroutines call them. Up to a limit, calls go alone over
// the pool. Further calls wait, and a call that finishes sends all that wait in one pipeline. There is no timer: a
// call never waits for others to join it. The limit is 4 for each master while the fastest operation of the
// last second took under 150 us, as on the same host. Otherwise it is PoolSize, at most 64. A pipeline has at most
// 300 calls and about 1 MiB of values. Values over 64 KiB, scripts, transactions and tagged writes use their own
// connections. [Store.Stats] counts pipelines.
//
// If the context of a waiting call ends, its command is not sent. If the context ends after the command was sent, the error
// says "outcome unknown": the write may take place until the pipeline ends. A pipeline ends at the latest deadline of its
// callers, and for callers without a deadline after the client's ReadTimeout. [Config] and the URL option combine=off
// disable combining.
//
// # Near cache
//
// With the URL options near_cache and near_cache_max_staleness, or with [NewNearCache], frequent reads are served from a
// cache in the process, which holds the same bytes as Redis. See [NearCache] for its promises.
//
// # Retries and deadlines
//
// go-redis repeats a command whose connection broke. A pipeline of combined calls is sent once, and its callers repeat their
// commands. Most commands may run twice. CompareAndSwap and SetIfNotExists may not:
// repeated after a lost reply they would report false for their own write. They are sent once. If their error is not a reply
// of the server, the outcome is unknown.
//
// The deadline of a context ends a call in time if the client was made with ContextTimeoutEnabled, as by Open. If a context is
// cancelled without a deadline, the call ends before the next attempt, at the latest after the client's ReadTimeout, because
// go-redis does not interrupt a read.
//
// # Permissions
//
// An ACL user whose entries and tags start with "shop:" needs at least these rights, for all methods but Clear:
//
//	ACL SETUSER app on >password ~shop:* ~gocache_tag_shop:* -@all
//	    +ping +get +set +unlink +pttl +type +multi +exec +eval +evalsha +exists +strlen +getrange
//	    +sadd +srem +sismember +sscan +pexpire +persist +scan +info
//
// Add +client|tracking for a near cache. Add +select for a database other than 0, +client|setname for a client_name, and
// +flushdb for Clear. In a Cluster add +cluster|slots, +command and +asking, and +readonly for a client that reads from
// replicas. Names of tags start with "gocache_tag_" in Redis, hence the second pattern.
//
// Some rights are optional. Without info a scan does not notice that its server was restarted, or that it is a Cluster node.
// Without multi and exec (both, or neither) a script reads values with TTLs, which is slower for large values. The same holds
// for servers and proxies that refuse these commands. Without tags, swaps and enumeration, ping, get, set, unlink, pttl, multi
// and exec are enough.
//
// Scripts are sent once per node and called by their digest.
package redisstore
