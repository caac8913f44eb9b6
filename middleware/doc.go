// Package middleware seals the values of a gocache store (github.com/eko/gocache). To seal is to encrypt so that altered
// values are detected.
//
// [New] wraps any gocache store:
//
//	kek, err := aead.OpenKEK(ctx, "file:///run/secrets/kek.json")
//	...
//	keys, err := aead.NewEnvelope(ctx, kek)
//	...
//	sealed, err := middleware.New(backing, keys) // backing: the gocache store
//	...
//	cache := cache.New[string](sealed) // the rest of the code stays the same
//
// The returned [Store] is itself a gocache store. It seals each value before the value leaves the process. Get opens the
// value and checks it. Without gocache, call [NewSealer]. The returned [Sealer] seals and opens single values, and the
// application stores them. A Store and a Sealer with the same keys, namespace and codecs read the values of each other.
//
// # Promises
//
//   - Set never stores a value unencrypted. Get refuses a value that is stored unencrypted. The option [WithPlaintext]
//     can change both rules, for a migration.
//   - Get returns a sealed value only if it was sealed with your encryption keys, for this cache key and this namespace.
//     The namespace is a prefix of the names of a cache's entries ([WithNamespace]).
//   - Get returns an error for a value that was altered, cut, or copied from another cache key.
//   - A cache value never opens as something else, for example as the data of a job.
//
// An operator of the wrapped store can still delete an entry, or put back an older value of the same entry. The operator
// also sees cache keys, sizes and times. SECURITY.md gives the remedies.
//
// # Types of values
//
// A []byte, string, bool, integer or float comes back with the same type. A nil []byte comes back empty. All other types
// need a [Codec], such as [JSON], [MsgPack] or [Proto]. Pointers and named types need a Codec, too.
//
// # Operation
//
// Some methods of Store, such as Increment, need more than gocache's interface. They return [ErrUnsupported] if the
// wrapped store does not support them. docs/stores.md lists what each store supports.
//
// Call [Store.Check] at start and in the readiness probe. Check tests the encryption keys and the wrapped store. It also
// finds out whether other processes use the same keys: see [Store.KeysDiffer]. A Store logs and counts failed writes and
// values that do not open: see [WithLogger] and [WithMeterProvider].
//
// A Sealer is safe for concurrent use. So is a Store, if the wrapped store is.
//
// FORMAT.md specifies the format of stored values. Each release from v1 on reads the values of all earlier
// releases from v1 on.
package middleware
