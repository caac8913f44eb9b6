package fxmodule

import (
	"time"

	"github.com/sealcache/sealcache/middleware"
	"github.com/sealcache/sealcache/middleware/jobs"
)

// Default is the name of the cache that is provided without a name.
const Default = "default"

// DefaultKeyTimeout bounds the opening of all keys if Config.KeyTimeout is 0.
const DefaultKeyTimeout = 15 * time.Second

// Config describes the caches, their keys and the jobs of an application. ConfigFromEnv and ConfigFromYAML read it. The
// module validates it when the graph is built.
//
// A Config may hold passwords and key URIs. Its String, and therefore fmt, log/slog, encoding/json and YAML encoders,
// show which settings are set but not these values. There are two exceptions. fmt calls no method of a Config in an
// unexported field of another struct: do not print such a struct. And fmt calls no method for the verbs %p and %w, which go
// vet reports.
type Config struct {
	// Caches are the caches by name. At least one is required. A name has 1 to 64 letters, digits, '_', '.' and '-'.
	Caches map[string]Cache `yaml:"caches" env:"-"`
	// Jobs describes background jobs.
	Jobs Jobs `yaml:"jobs" envPrefix:"JOBS_"`
	// KeyTimeout bounds the opening of all keys and stores when the graph is built. 0 is DefaultKeyTimeout. Negative is an
	// error.
	KeyTimeout time.Duration `yaml:"key_timeout" env:"KEY_TIMEOUT"`
}

// Cache describes one cache. A cache has a KEK, or is Unsealed.
type Cache struct {
	// Store is a URL for stores.Open, such as "redis://localhost:6379/0" or "memory://". It is required with Module. With
	// Decorator, an empty Store is the store.StoreInterface that the application provides and closes.
	Store string `yaml:"store" env:"STORE" show:"scheme"`
	// Namespace prefixes the names of entries and tags, is bound into every sealed value, and scopes Clear. A cache without
	// a namespace refuses Clear. A namespace is required with several caches, or with jobs.
	Namespace string `yaml:"namespace" env:"NAMESPACE" show:"name"`
	// Unsealed makes a cache that stores plaintext. Such a cache takes no settings of keys or of plaintext.
	Unsealed bool `yaml:"unsealed" env:"UNSEALED"`
	// TTL is the expiration of entries that are set without one. 0 is none. Negative is an error.
	TTL time.Duration `yaml:"ttl" env:"TTL"`

	// KEK is the URI of the key-encryption key for aead.OpenKEK: file:///path, passphrase:env:NAME, or a scheme of a
	// key-service module in the fx group "kek".
	KEK string `yaml:"kek" env:"KEK" show:"scheme"`
	// OtherKEKs are the URIs of further key-encryption keys. Each opens what it has wrapped before, and wraps nothing new:
	// aead.KEKSet. They are for a move to another KEK, and for the same key in other regions. In a variable, commas separate
	// them. All of them are opened at start. At most 15 are allowed.
	OtherKEKs []string `yaml:"other_keks" env:"OTHER_KEKS" show:"scheme"`
	// Keyset is a Tink keyset that is sealed under KEK (or one of OtherKEKs): the path of a file, or env:NAME. Its keys then wrap the data keys,
	// and KEK opens only the keyset. A path begins with "/" or ".".
	Keyset string `yaml:"keyset" env:"KEYSET" show:"source"`
	// KeysetName is the name to which Keyset is bound: aead.WithKeysetName. A keyset of another name is refused.
	KeysetName string `yaml:"keyset_name" env:"KEYSET_NAME" show:"name"`
	// KeysetReload is the interval at which Keyset is read again: aead.WithReload. A changed file is also noticed at once. 0 is
	// one minute for a file; a variable, and a path that is not that of a regular file, are then read once. Negative is an error.
	KeysetReload time.Duration `yaml:"keyset_reload" env:"KEYSET_RELOAD"`
	// Cryptoperiod is how long a key of Keyset may be the primary key before a warning is logged: aead.WithCryptoperiod. Keyset
	// must be a file. 0 is never. Negative is an error.
	Cryptoperiod time.Duration `yaml:"cryptoperiod" env:"CRYPTOPERIOD"`
	// TenantKEKs is a URI template of the key-encryption keys of tenants: aead.WithTenantKEKs. Each "{tenant}" in it becomes the
	// id of the tenant. Keys.Envelope(cache).Tenant(id) seals for a tenant.
	TenantKEKs string `yaml:"tenant_keks" env:"TENANT_KEKS" show:"scheme"`
	// Tenant is the id of the tenant whose KEK and data keys seal this cache, and its jobs. It requires TenantKEKs. KEK (with
	// Keyset) then seals PRF keysets only. If the tenant's KEK does not open, the application does not start.
	Tenant string `yaml:"tenant" env:"TENANT" show:"name"`
	// WrapContext is the context with which data keys are wrapped: aead.WithWrapContext. A variable is such as
	// "namespace=shop,app=web". Every process that shares the values needs the same one.
	WrapContext map[string]string `yaml:"wrap_context" env:"WRAP_CONTEXT" envKeyValSeparator:"="`
	// WrapContextState is the state of the introduction of WrapContext (docs/keyservices.md). "prepare" wraps without the
	// context, and opens data keys with and without it. "tolerate" wraps with it and opens both. "require" wraps and opens
	// only with it. Empty is "require".
	WrapContextState string `yaml:"wrap_context_state" env:"WRAP_CONTEXT_STATE" show:"name"`
	// DataKeys are the limits of data keys.
	DataKeys DataKeys `yaml:"data_keys" envPrefix:"DATA_KEYS_"`

	// Plaintext is the policy for values that are not sealed: middleware.WithPlaintext. The default rejects them.
	Plaintext middleware.PlaintextPolicy `yaml:"plaintext" env:"PLAINTEXT"`
	// PlaintextUntil is when the policy in Plaintext ends: plaintext values are refused from then on. WritePlaintext
	// requires it.
	PlaintextUntil time.Time `yaml:"plaintext_until" env:"PLAINTEXT_UNTIL"`
	// MissOnOpenFailure makes an unreadable value a miss instead of an error: middleware.WithMissOnOpenFailure.
	MissOnOpenFailure bool `yaml:"miss_on_open_failure" env:"MISS_ON_OPEN_FAILURE"`
	// MaxValueBytes bounds a value before it is sealed. 0 is middleware.DefaultMaxValueBytes. Negative is an error.
	MaxValueBytes int `yaml:"max_value_bytes" env:"MAX_VALUE_BYTES"`
	// HiddenKeys hides the names of keys and tags: middleware.WithHiddenKeys. It is a keyset of PRF keys, sealed under KEK: a
	// path or env:NAME, as Keyset. It is read once.
	HiddenKeys string `yaml:"hidden_keys" env:"HIDDEN_KEYS" show:"source"`
	// OneWayKeys is HiddenKeys for names that are secrets, which are not stored at all: middleware.WithOneWayKeys.
	OneWayKeys string `yaml:"one_way_keys" env:"ONE_WAY_KEYS" show:"source"`
	// PRFKeysetName is the name to which the keyset of HiddenKeys or OneWayKeys is bound: aead.WithKeysetName.
	PRFKeysetName string `yaml:"prf_keyset_name" env:"PRF_KEYSET_NAME" show:"name"`
	// SealedExpiry seals the expiry with each value: middleware.WithAuthenticatedExpiry.
	SealedExpiry bool `yaml:"sealed_expiry" env:"SEALED_EXPIRY"`
	// CompressMinBytes compresses values from this size on: middleware.WithCompression, which takes 512 and more. 0 is never.
	CompressMinBytes int `yaml:"compress_min_bytes" env:"COMPRESS_MIN_BYTES"`
	// CompressFast compresses with S2: middleware.WithFastCompression. It requires CompressMinBytes.
	CompressFast bool `yaml:"compress_fast" env:"COMPRESS_FAST"`
	// Padding hides the exact length of values: middleware.WithPadding.
	Padding bool `yaml:"padding" env:"PADDING"`
	// Codecs encode values of types that are not predeclared: middleware.WithCodec. They are set in code only.
	Codecs []middleware.Codec `yaml:"-" env:"-"`
}

// DataKeys are the limits of the data keys of a sealed cache. Zero values are the defaults of package aead. Caches with
// the same keys and limits share their data keys.
type DataKeys struct {
	// MaxMessages bounds the messages that one data key seals: aead.WithMaxMessages.
	MaxMessages uint64 `yaml:"max_messages" env:"MAX_MESSAGES"`
	// MaxBytes bounds the bytes that one data key seals: aead.WithMaxBytes.
	MaxBytes uint64 `yaml:"max_bytes" env:"MAX_BYTES"`
	// MaxAge bounds the time in which one data key seals: aead.WithMaxAge. Negative is an error.
	MaxAge time.Duration `yaml:"max_age" env:"MAX_AGE"`
	// CacheSize is the number of unwrapped data keys that are kept for reading: aead.WithDataKeyCache. Negative is an error.
	CacheSize int `yaml:"cache_size" env:"CACHE_SIZE"`
	// TTL is the time in which one data key opens values before the KEK is asked again: aead.WithDataKeyTTL. Negative is an
	// error.
	TTL time.Duration `yaml:"ttl" env:"TTL"`
}

// Jobs describes how background jobs are sealed. The fields from Redis on are for jobs on asynq, in package fxjobs.
type Jobs struct {
	// KeysOf names the sealed cache whose keys seal the jobs. Empty is "default" if that cache is sealed. Otherwise there is
	// no *jobs.Encryptor.
	KeysOf string `yaml:"keys_of" env:"KEYS_OF" show:"name"`
	// Namespace is bound into every payload: jobs.WithNamespace. Producers and workers need the same one.
	Namespace string `yaml:"namespace" env:"NAMESPACE" show:"name"`
	// PRFKeyset is a keyset of PRF keys, sealed under the KEK of that cache: a path or env:NAME, as Cache.Keyset. Unique
	// jobs, hidden type names and schedules require it. It is read once. To rotate it, add a key and restart every process.
	// Then make that key the primary one, and restart every process again.
	PRFKeyset string `yaml:"prf_keyset" env:"PRF_KEYSET" show:"source"`
	// PRFKeysetName is the name to which PRFKeyset is bound: aead.WithKeysetName.
	PRFKeysetName string `yaml:"prf_keyset_name" env:"PRF_KEYSET_NAME" show:"name"`
	// CompressMinBytes compresses payloads from this size on: jobs.WithCompression. 0 is never. Negative is an error.
	CompressMinBytes int `yaml:"compress_min_bytes" env:"COMPRESS_MIN_BYTES"`
	// MaxPayloadBytes bounds a payload: jobs.WithMaxPayloadBytes. 0 is its default. Negative is an error.
	MaxPayloadBytes int `yaml:"max_payload_bytes" env:"MAX_PAYLOAD_BYTES"`

	// Redis is the URL of the Redis that holds the queues, for redisstore.OpenClient. If it is empty, the application
	// provides an asynq.RedisConnOpt, from which fxjobs makes one client, which it closes at stop.
	Redis string `yaml:"redis" env:"REDIS" show:"scheme"`
	// Queues are the queues of this process's worker with their weights, 1 to 1000: asynq.Config.Queues. If there are none,
	// those of the application's asynq.Config apply, or the queue "default".
	Queues map[string]int `yaml:"queues" env:"QUEUES" envKeyValSeparator:"=" show:"name"`
	// StrictPriority empties a queue of more weight before one of less: asynq.Config.StrictPriority.
	StrictPriority bool `yaml:"strict_priority" env:"STRICT_PRIORITY"`
	// Concurrency is the number of tasks that the worker runs at a time. 0 means the number of the application's
	// asynq.Config, or the number of CPUs. Negative is an error.
	Concurrency int `yaml:"concurrency" env:"CONCURRENCY"`
	// ShutdownTimeout is the time that running tasks have at stop before they return to their queue. 0 means the
	// number of the application's asynq.Config, or asynq's 8 seconds. Negative is an error. Keep fx.StopTimeout (15
	// seconds by default) some seconds longer. If it ends first, tasks that still run when the process ends do not
	// return to their queue. asynq in another process finds these tasks about a minute later, and counts a try for
	// each. It archives the tasks that have no try left.
	ShutdownTimeout time.Duration `yaml:"shutdown_timeout" env:"SHUTDOWN_TIMEOUT"`
	// HiddenTypes hides type names: asynqjobs.WithHiddenTypes. It requires PRFKeyset.
	HiddenTypes bool `yaml:"hidden_types" env:"HIDDEN_TYPES"`
	// Plaintext is the policy for plaintext tasks: asynqjobs.WithPlaintext. The default rejects them.
	Plaintext jobs.PlaintextPolicy `yaml:"plaintext" env:"PLAINTEXT"`
	// PlaintextUntil is when the policy in Plaintext ends: asynqjobs.WithPlaintextUntil. It needs a policy other than
	// RejectPlaintext. WritePlaintext requires it.
	PlaintextUntil time.Time `yaml:"plaintext_until" env:"PLAINTEXT_UNTIL"`
	// Schedules are the settings of the scheduler.
	Schedules Schedules `yaml:"schedules" envPrefix:"SCHEDULES_"`
}

// Schedules are the settings of periodic jobs. Zero values are the defaults of package asynqjobs.
type Schedules struct {
	// CatchUp is the age up to which missed ticks are enqueued later: asynqjobs.WithCatchUp. With 1ns only the latest missed
	// tick is enqueued.
	CatchUp time.Duration `yaml:"catch_up" env:"CATCH_UP"`
}
