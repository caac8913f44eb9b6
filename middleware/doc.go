// Package middleware seals the values of a gocache store.
//
// [New] wraps any gocache store. Values are sealed with a Tink AEAD before they
// leave the process, and opened after their origin is proven:
//
//	kek, err := aead.OpenKEK(ctx, "file:///run/secrets/kek.json")
//	...
//	keys, err := aead.NewEnvelope(ctx, kek)
//	...
//	sealed, err := middleware.New(backing, keys)
//	...
//	cache := cache.New[string](sealed) // and the rest as before
//
// An application without gocache uses [NewSealer], whose values a Store reads.
//
// # Promises
//
// No plaintext is stored unless [WithPlaintext] says so. Get returns only values
// that a holder of the key sealed for this key name, namespace and purpose.
// Altered, cut and moved values are errors. An operator of the store can still
// delete an entry, restore an older value of the same entry, and see key names,
// sizes and times. SECURITY.md gives the remedies.
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
// capabilities. gocache's Redis store hides its client and has SetIfNotExists
// only. A go-redis client reads from the Store's own buffer during a SET. A
// go-redis hook that keeps the value must therefore copy it before the SET
// returns. Reading the value later returns an error.
//
// # Operation
//
// Call [Store.Check] at start and in the readiness probe. It tests keys and store,
// and compares keys with the other processes: see [Store.KeysDiffer]. A write that
// fails and a value that does not open are logged and counted: see [WithLogger]
// and [WithMeterProvider].
//
// # Stability
//
// The format of stored values is versioned, and FORMAT.md specifies it. Later
// releases read what earlier ones wrote.
package middleware
