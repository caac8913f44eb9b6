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
	// Jobs says how background jobs are sealed and run.
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

// Jobs says how background jobs are sealed, and where those on asynq are and how they are run.
type Jobs struct {
	// Cache names the sealed cache whose keys they use. Empty is "default" if that cache is sealed; otherwise there is
	// no encryptor.
	Cache string
	// Namespace is bound into every payload: jobs.WithNamespace. Producers and workers need the same. Empty is none.
	Namespace string
	// PRFKeyset is a keyset of PRF keys, sealed under the KEK of that cache, for what needs keyed tokens (unique jobs,
	// hidden type names, schedules): a path or env:NAME, as Cache.Keyset. Empty is none.
	// It is read once: a new key is added to it, then every process is started again, and then only made the primary one,
	// with a second restart.
	PRFKeyset string
	// CompressMinBytes compresses payloads from this size on: jobs.WithCompression, which says when not to. 0 is never;
	// negative is an error.
	CompressMinBytes int
	// MaxPayloadBytes bounds a payload: jobs.WithMaxPayloadBytes. 0 is its default; negative is an error.
	MaxPayloadBytes int

	// The rest is for jobs on asynq, and matters only to an application that takes what Module provides for it.

	// Redis is the URL of the Redis that holds the queues, as redisstore.Open takes it: redis, rediss, redis+unix,
	// redis+sentinel, redis+cluster and their like. Empty, the jobs stand on the asynq.RedisConnOpt that the application
	// provides, of which one client is made, and closed at stop.
	Redis string
	// Queues are the queues that the server of this process works on, with their weights, 1 to 1000, as
	// asynq.Config.Queues has it. Empty, they are those of the application's asynq.Config, or the queue "default".
	Queues map[string]int
	// StrictPriority empties a queue of more weight before one of less: asynq.Config.StrictPriority.
	StrictPriority bool
	// Concurrency is how many tasks the server runs at a time. 0 is that of the application's asynq.Config, or the number
	// of CPUs; negative is an error.
	Concurrency int
	// ShutdownTimeout is how long tasks that run at stop may take to end, before they are put back into their queue, where
	// they wait as if they had not begun. 0 is that of the application's asynq.Config, or asynq's 8 seconds; negative is an
	// error. fx.StopTimeout, which is for all of the application (15 seconds unless changed), should be some seconds
	// longer. If it ends first, tasks that have not ended when the process does are not put back: asynq in some other
	// process finds them about a minute later, which counts as a try, and archives them if they have none left.
	ShutdownTimeout time.Duration
	// NoServer keeps this process from running tasks although it has handlers for them: for one of several kinds of
	// processes that are made of one program, or for an application that runs a server of its own with the asynq.Handler
	// that Module provides. It still enqueues, and runs schedules if it takes the Scheduler.
	NoServer bool
	// HiddenTypes hides type names: asynqjobs.WithHiddenTypes. It needs PRFKeyset.
	HiddenTypes bool
	// ClearUntil lets tasks in clear pass until then, while an application is moved: asynqjobs.WithClearUntil.
	ClearUntil time.Time
	// Schedules are for the Scheduler. It needs PRFKeyset.
	Schedules Schedules
}

// Schedules says how periodic jobs are run. Zero values are the defaults of package asynqjobs.
type Schedules struct {
	// Poll is how often Redis is asked for changed schedules, at least 100 ms: asynqjobs.WithPollInterval. Negative is an
	// error.
	Poll time.Duration
	// CatchUp is how far back missed ticks are made up for, at most a minute: asynqjobs.WithCatchUp. To make up for the
	// latest only, say 1ns. Negative is an error.
	CatchUp time.Duration
}
