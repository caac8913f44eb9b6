// Package redisstore is a gocache store for Redis: a single node, Sentinel or Cluster. gocache is github.com/eko/gocache.
// The store does not encrypt: to seal values, pass the store to middleware.New.
//
// Call [Open] with a URL:
//
//	s, err := redisstore.Open(ctx, "rediss://app@redis:6379/0?password_file=/run/secrets/redis&expiration=10m")
//	...
//	defer s.Close()
//
// If the application already has a go-redis client, call [New] in place of gocache's redis.NewRedis. Both stores can work
// on the same Redis at the same time. docs/stores.md lists the differences, and the rights that a Redis user needs.
//
// In addition to gocache's interface, a Store has these features:
//
//   - It returns bytes that the caller may change.
//   - [Store.GetBytesMax] does not read a value that is larger than a limit.
//   - [Store.CompareAndSwap] replaces a value atomically.
//   - [Store.GetWithTTL] returns value and TTL in one round trip. The TTL is exact to the millisecond.
//   - [Store.Keys] lists entries by prefix, and [Store.ClearPrefix] deletes them by prefix.
//   - A [NearCache] serves frequent reads from the memory of the process.
//
// # Tags
//
// gocache can give an entry tags. Invalidate deletes the entries that have one of the given tags. When [Store.Set] returns
// without an error, the entry has its tags.
//
// For each tag, Redis holds a set with the names of its entries. Redis can evict such a set, and Invalidate then misses
// entries. So if you set maxmemory, set maxmemory-policy to noeviction or volatile-ttl. [Store.Advice] reports any other
// policy.
//
// # Errors and deadlines
//
// The text of an error contains no key and no value. To find errors of go-redis and of the context, use errors.Is and
// errors.As.
//
// If a connection breaks, go-redis repeats the command. So Redis can execute a command twice. The Store sends
// SetIfNotExists and the methods whose names begin with Compare only once, because the second execution would report false
// for a successful write. These methods can return an error that is not a reply of the server. After such an error, it is
// unknown whether Redis executed the command.
//
// A call ends at the deadline of its context only if the client has ContextTimeoutEnabled. [Open] sets it. If a context is
// canceled, a call that waits for a reply ends at the latest after ReadTimeout.
//
// # Concurrency
//
// A Store is safe for concurrent use. When many goroutines call it, it sends several calls together in one round trip.
// Config.DisableCombining turns this off. If your client has hooks, read the comment of [New].
package redisstore
