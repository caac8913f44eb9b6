// Package redisstore is a gocache store for Redis: a single node, Sentinel or Cluster.
//
// [New] returns a store for a go-redis client of the application. It replaces gocache's redis.NewRedis. [Open] returns a
// store for a URL and owns its client. [OpenClient] returns only the client of a URL.
//
//	s, err := redisstore.Open(ctx, "rediss://app@redis:6379/0?password_file=/run/secrets/redis&expiration=10m")
//
// In addition to gocache's interface, a Store has these features:
//
//   - It returns bytes that the caller owns.
//   - [Store.GetBytesMax] limits the size of the value that is read.
//   - [Store.CompareAndSwap] replaces a value atomically.
//   - When several clients write the same tag at once, no tag is lost.
//   - [Store.GetWithTTL] returns value and TTL in one round trip. The TTL is exact to the millisecond.
//   - [Store.Keys] lists entries by prefix, and ClearPrefix deletes them by prefix.
//
// A Store is safe for concurrent use. The text of an error contains no key and no value. errors.Is and errors.As find the errors
// of go-redis and of the context.
//
// # Differences from gocache's Redis store
//
// Both stores can work on the same Redis. They use the same keys and values. The set of a tag has the same name in both
// ("gocache_tag_" and the tag), and contains the names of the entries with the tag. The behavior differs:
//
//   - Get and GetWithTTL return a []byte that the caller owns, not a string.
//   - A cache key must be a Go string. Any other type is an error; gocache's store panics.
//   - Expirations have a resolution of one millisecond, rounded up. GetWithTTL returns 0 for an entry without expiration.
//     gocache's store returns -1ns. In options, 0 and -1ns mean no expiration. Any other negative duration is an error.
//   - Set and Invalidate return the errors of tags. gocache's store drops them.
//   - The set of a tag lives at least as long as each entry with the tag. Only with TagsTTL can an entry without expiration
//     outlive the set. If gocache's own store writes the same tag, it shortens the life of the set to 720 h.
//   - Invalidate deletes only Redis keys of the type string, even if the set of a tag contains other names.
//   - Set and Delete refuse a key that is the name of a tag's set.
//   - Clear empties the selected database on every master. gocache's store empties all databases of one master.
//
// # Tags
//
// On a single node, one script writes an entry together with its tags. Another script removes an entry together with its name in
// the set of a tag. So an entry never lacks its tags.
//
// In a Cluster, an entry and the sets of its tags can be on different nodes. Set writes the tags, then the entry, then the tags
// again. Invalidate deletes the entries, then their names in the set, then the entries again. When Set returns,
// the entry has its tags. If the context ends during Set, the last step gets two more seconds. In a Cluster, an entry can lack
// tags in two cases:
//
//   - A process dies inside Set while another process invalidates the same tag. The entry can lack this tag.
//   - A process dies inside SetIfNotExists, which writes the tags after the entry. The entry can lack all tags.
//
// Redis can evict the set of a tag. Invalidate then misses entries. If maxmemory is set, use the policy noeviction or volatile-ttl.
// With volatile-ttl, Redis evicts the key with the shortest TTL first. [Store.Advice] reports any other policy, and
// middleware.Store's Check logs it.
//
// The name of an expired or deleted entry stays in the set until the tag is invalidated or the set expires. The name only uses
// memory. [Store.PruneTags] removes it. CompareAndSwap does not change tags. Before you give an entry a longer TTL, call
// [Store.ExtendTags].
//
// # Replicas and Clusters
//
// A Cluster client with ReadOnly, RouteByLatency or RouteRandomly reads single values from replicas. Such a read can return a
// deleted entry. All other operations use the masters.
//
// Clear, ClearPrefix, Keys and PruneTags return an error if a single-node client is connected to a node of a Cluster. That client
// would see only a part of the entries. These methods call INFO to detect this.
//
// # Combined calls
//
// When many goroutines use a Store, it sends several calls in one pipeline. It does this for Get, GetBytesMax, Delete, and for Set
// without tags. Up to a limit, each call uses its own connection. Calls above the limit wait. When a call finishes, the Store sends
// the waiting calls in one pipeline. The Store never delays a call to collect more calls. [Config] and the URL option combine=off
// disable this. [Store.Stats] counts pipelines.
//
// The limit for each master is PoolSize, but at most 64. The limit is 4 if the fastest operation of the last second took less than
// 150 us, as with a Redis on the same host. A pipeline has at most 300 calls and about 1 MiB of values. Values over 64 KiB,
// scripts, transactions and writes with tags use their own connections.
//
// If the context of a waiting call ends, the Store does not send the call. If the context ends later, the error says "outcome
// unknown". Redis can then still execute the write until the pipeline ends. The deadline of a pipeline is the latest deadline of its
// calls. For a call without a deadline, the client's ReadTimeout counts.
//
// # Near cache
//
// A near cache serves frequent reads from the memory of the process. It holds the same bytes as Redis. The URL options near_cache
// and near_cache_max_staleness enable it, or [NewNearCache]. [NearCache] describes its promises.
//
// # Retries and deadlines
//
// If a connection breaks, go-redis repeats the command, so Redis can execute most commands twice. The Store sends a pipeline of
// combined calls once. If its connection breaks, the Store repeats each call alone.
//
// The Store sends CompareAndSwap and SetIfNotExists only once, because a repetition would return false for its own write. After
// an error that is not a reply of the server, the outcome is unknown.
//
// A call ends at the deadline of its context only if the client has ContextTimeoutEnabled. [Open] sets it. go-redis does not
// interrupt a read when a context is canceled. The call then ends before the next attempt, at the latest after ReadTimeout.
//
// # Permissions
//
// An ACL user whose entries and tags start with "shop:" needs at least these rights, for all methods but Clear:
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
//   - multi and exec: grant both or neither. Without them, a script reads values with TTLs, which is slower for large values.
//     The Store also uses the script if a server or proxy refuses these commands.
//   - An application without tags, swaps and listing needs only ping, get, set, unlink, pttl, multi and exec.
//
// The Store sends each script once to each node, and then calls it by its digest.
package redisstore
