// Package middleware seals the values of a gocache store.
//
// [New] wraps any gocache store. The returned [Store] seals each value with a Tink
// AEAD before the value leaves the process. Get returns a value only after the value
// has authenticated. For example:
//
//	kek, err := aead.OpenKEK(ctx, "file:///run/secrets/kek.json")
//	...
//	keys, err := aead.NewEnvelope(ctx, kek)
//	...
//	sealed, err := middleware.New(backing, keys)
//	...
//	cache := cache.New[string](sealed) // the rest of the code stays the same
//
// Without gocache, use [NewSealer]. A Store reads the values of a [Sealer], and a Sealer
// reads the values of a Store.
//
// # Promises
//
//   - A Store writes no plaintext, and Get returns no plaintext, unless [WithPlaintext]
//     allows it.
//   - Get returns a sealed value only if it was sealed with your encryption keys for this
//     cache key and this namespace. The namespace is the name of a cache ([WithNamespace]).
//   - Get returns an error for a value that was altered, cut, or copied from another
//     cache key.
//   - A value opens only for its own purpose. For example, a cache value never opens as
//     the payload of a job.
//
// An operator of the backing store can still delete an entry, or restore an older value
// of the same entry. The operator also sees cache keys, sizes and times. SECURITY.md
// gives the remedies.
//
// # Types
//
// []byte, string, bool, integers and floats come back with the type that they
// were set with, over any store. A nil []byte comes back empty. Other types,
// pointers and named types included, need a codec: [JSON], [MsgPack], [Proto] or
// your own [Codec].
//
// # Backing stores
//
// Every store that gocache publishes works. A Store reports TTLs and misses in the same
// way over all of them: GetWithTTL returns 0 for an entry without expiration, and the
// error of a missing entry is store.NotFound.
//
// A backing store can have more methods than gocache's interface: see [CapableStore].
// Package stores/redisstore supports all features of a Store. Over gocache's Redis
// store, only SetIfNotExists works in addition, because gocache hides the client.
//
// A Store can reuse the memory of a sealed value after Set returns. A go-redis hook
// that keeps a value must copy the value before SET returns. Over gocache's Redis
// store, a hook that reads the value later gets an error.
//
// # Operation
//
// Call [Store.Check] at start and in the readiness probe. Check tests the encryption
// keys and the backing store. It also compares the keys with those of the other
// processes: see [Store.KeysDiffer].
//
// A Store logs and counts failed writes and values that do not open: see [WithLogger]
// and [WithMeterProvider].
//
// A Sealer is safe for concurrent use. So is a Store, if its backing store is.
//
// # Stability
//
// The format of stored values is versioned, and FORMAT.md specifies it. Each release
// reads the values of earlier releases.
package middleware
