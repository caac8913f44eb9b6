// Package middleware seals the values of a gocache store.
//
// [New] wraps any gocache store. Values are sealed with a Tink AEAD before they
// leave the process. Get authenticates each value before it returns it:
//
//	kek, err := aead.OpenKEK(ctx, "file:///run/secrets/kek.json")
//	...
//	keys, err := aead.NewEnvelope(ctx, kek)
//	...
//	sealed, err := middleware.New(backing, keys)
//	...
//	cache := cache.New[string](sealed) // the rest of the code stays the same
//
// Without gocache, use [NewSealer]. A Store reads the values that a [Sealer] seals, and the other
// way round.
//
// # Promises
//
// No plaintext is stored unless [WithPlaintext] allows it. Get returns only values
// that were sealed with your encryption keys for this cache key, namespace and
// purpose. The namespace is the name of a cache ([WithNamespace]). The purpose is
// the use of a value: a cache value never opens as the payload of a job, for example.
// Get returns an error for a value that was altered, cut, or copied from another
// cache key. An operator of the store can still delete an entry, restore an older
// value of the same entry, and see cache keys, sizes and times. SECURITY.md gives
// the remedies.
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
// Every store that gocache publishes works. TTLs and misses are uniform: no expiry
// is 0, and a miss is store.NotFound. A store declares what it can do beyond
// gocache's interface: see [CapableStore]. Package stores/redisstore has all
// capabilities. gocache's Redis store offers only SetIfNotExists, because it does
// not expose its client. A go-redis client reads from the Store's own buffer during
// a SET. A go-redis hook that keeps the value must copy it before the SET returns.
// If the hook reads the value later, it gets an error.
//
// # Operation
//
// Call [Store.Check] at start and in the readiness probe. It tests the encryption
// keys and the store, and compares the keys with those of the other processes: see
// [Store.KeysDiffer]. Failed writes and values that cannot be opened are logged and
// counted: see [WithLogger] and [WithMeterProvider].
//
// # Stability
//
// The format of stored values is versioned, and FORMAT.md specifies it. Later
// releases read what earlier ones wrote.
package middleware
