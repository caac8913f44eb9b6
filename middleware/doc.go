// Package middleware seals what a gocache store holds.
//
// [New] wraps any gocache store, so that every value is sealed with a Tink AEAD
// before it leaves the process, and opened, after its origin was proven, when it
// comes back:
//
//	kek, err := aead.OpenKEK(ctx, "file:///run/secrets/kek.json")
//	...
//	keys, err := aead.NewEnvelope(ctx, kek)
//	...
//	sealed, err := middleware.New(redisstore, keys)
//	...
//	cache := cache.New[string](sealed) // and the rest as before
//
// # What is promised
//
// Nothing is stored in clear unless [WithPlaintext] says so, and nothing that
// was not sealed by a holder of the key, for this very key name, namespace and
// purpose, is returned. That includes values that were altered, cut, or moved
// from another entry. What the store's operator can still do is delete an entry,
// put back an older value of the same entry, and see key names, sizes and times:
// SECURITY.md says what to do about each.
//
// # Types
//
// []byte, string, bool, all integers and all floats come back as they went in,
// whatever the backing store makes of them. A nil []byte comes back empty.
// Everything else, pointers and named types included, needs a codec: [JSON],
// [MsgPack], [Proto] or one of your own ([Codec]). The predeclared types never
// go through it.
//
// # Backing stores
//
// Every store that gocache publishes works; TTLs and misses are made uniform
// (no expiry is 0, a miss is store.NotFound). What a store can do beyond gocache's
// interface is found by its methods: [BytesStore], [Swapper], [Enumerator],
// [Pinger]. Package stores/redisstore has all of them; gocache's own Redis store
// has none, because it does not show its client. Over that one a hook of the
// go-redis client that keeps a SET's arguments finds an error in place of the
// value once the SET has returned, and never another value: copy in the hook.
//
// # Stability
//
// The format of stored values is versioned and specified in FORMAT.md. Later
// releases read what earlier ones wrote.
package middleware
