package fxmodule

import (
	"time"

	"github.com/sealcache/sealcache/middleware"
)

// Default is the name of the cache that the application gets unnamed.
const Default = "default"

const (
	// DefaultKeyTimeout is how long opening all keys may take unless Config.KeyTimeout says otherwise.
	DefaultKeyTimeout = 15 * time.Second
	// DefaultKeysetReload is how often keysets are read again unless Cache.KeysetReload says otherwise.
	DefaultKeysetReload = time.Minute
)

// Config is what the module needs in the graph: from ConfigFromEnv, ConfigFromYAML, or written in code. It is checked
// when the graph is built, as Validate does.
//
// It may hold passwords and key URIs. Printed (fmt, log/slog, encoding/json, YAML) it shows which settings there are, and
// none of those: see String. There is one exception that Go leaves no way around: where a Config or a Cache lies in an
// unexported field of another struct, and that is printed with fmt, fmt calls no method of it and shows everything. Do
// not print such a struct, or keep a *Config in it, which fmt prints as an address.
type Config struct {
	// Caches by name: 1 to 64 letters, digits, '_', '.' and '-'. The one named "default" is provided unnamed too. At
	// least one is needed.
	Caches map[string]Cache
	// Jobs says how background jobs are sealed.
	Jobs Jobs
	// KeyTimeout bounds how long opening all keys may take when the graph is built: reading files, calling key
	// services, making the first data keys. 0 is DefaultKeyTimeout; negative is an error.
	KeyTimeout time.Duration
}

// Cache is one cache: where its values are stored, and under which keys. A cache has a KEK, or says Clear.
type Cache struct {
	// Store is a URL for stores.Open, such as "redis://localhost:6379/0" or "memory://". Empty, the cache stands on the
	// store.StoreInterface that the application provides, which the application also closes.
	Store string
	// Namespace prefixes the names of entries and tags, is bound into every sealed value, and scopes Clear:
	// middleware.WithNamespace. Where caches share a store, each should have one of its own:
	// one without is warned of at start, and refuses Clear. Empty is none.
	Namespace string
	// Clear makes it a cache that is not sealed. It then takes none of the settings of keys and of clear values.
	Clear bool
	// TTL is the expiration of entries that are set without one. 0 is none; negative is an error.
	TTL time.Duration

	// KEK is the URI of the key-encryption key, for aead.OpenKEK: file:///path, passphrase:env:NAME, and the schemes of
	// the key-service modules in the fx group "kek".
	KEK string
	// Keyset is a Tink keyset sealed under KEK: the path of its file, or env:NAME for a variable that holds it. Given
	// one, it wraps the data keys in the place of KEK, which is then asked for the keyset only. Empty is none.
	Keyset string
	// KeysetReload is how often Keyset is read again; a changed file is also noticed at once. 0 is
	// DefaultKeysetReload; negative is an error.
	KeysetReload time.Duration
	// DataKeys are the limits of data keys.
	DataKeys DataKeys

	// Plaintext says what happens to values in clear: middleware.WithPlaintext. The default rejects them.
	Plaintext middleware.PlaintextPolicy
	// PlaintextUntil is when the tolerance of Plaintext ends. WritePlaintext needs it: a cache that stays in clear says
	// Clear.
	PlaintextUntil time.Time
	// MissOnOpenFailure makes an unreadable value a miss instead of an error: middleware.WithMissOnOpenFailure.
	MissOnOpenFailure bool
	// MaxValueBytes bounds a value before sealing. 0 is middleware.DefaultMaxValueBytes; negative is an error.
	MaxValueBytes int
	// Codecs are for values of other than predeclared types: middleware.WithCodec. They are set in code only.
	Codecs []middleware.Codec
}

// DataKeys are the limits of a sealed cache's data keys; zero values are the defaults of package aead. Caches with the
// same keys and limits share their data keys.
type DataKeys struct {
	// MaxMessages and MaxBytes bound what one data key seals: aead.WithMaxMessages, aead.WithMaxBytes.
	MaxMessages, MaxBytes uint64
	// MaxAge bounds for how long one seals: aead.WithMaxAge. Negative is an error.
	MaxAge time.Duration
	// Cache is how many unwrapped data keys are held for reading: aead.WithDataKeyCache. Negative is an error.
	Cache int
	// TTL is for how long one opens values without asking the KEK again: aead.WithDataKeyTTL. Negative is an error.
	TTL time.Duration
}

// Jobs says how background jobs are sealed.
type Jobs struct {
	// Cache names the sealed cache whose keys they use. Empty is "default" if that cache is sealed; otherwise there is
	// no encryptor.
	Cache string
	// Namespace is bound into every payload: jobs.WithNamespace. Producers and workers need the same. Empty is none.
	Namespace string
	// PRFKeyset is a keyset of PRF keys, sealed under the KEK of that cache, for what needs keyed tokens (unique jobs,
	// hidden type names, schedules): a path or env:NAME, as Cache.Keyset. Empty is none.
	PRFKeyset string
	// CompressMinBytes compresses payloads from this size on: jobs.WithCompression, which says when not to. 0 is never;
	// negative is an error.
	CompressMinBytes int
	// MaxPayloadBytes bounds a payload: jobs.WithMaxPayloadBytes. 0 is its default; negative is an error.
	MaxPayloadBytes int
}
