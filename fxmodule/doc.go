// Package fxmodule brings sealed caching and sealed background jobs into an application that is built with
// go.uber.org/fx: keys, stores, caches, job encryption, and jobs on asynq, from one Config.
//
//	config, err := fxmodule.ConfigFromEnv()
//	...
//	fx.New(
//		fx.Supply(config),
//		fxmodule.Module,
//		fxmodule.ProvideDefault, // unless the application provides a store.StoreInterface
//		fx.Provide(NewProfiles), // func NewProfiles(s store.StoreInterface) *Profiles
//	).Run()
//
// An application that provides a gocache store.StoreInterface already keeps doing so, and leaves Store empty in the
// Config: whoever takes the store then gets it sealed. An application that does not gives a URL in Store, and lists
// [ProvideDefault] beside [Module], so that functions in its own fx.Modules find the store too.
//
// # What is sealed
//
// The caches of the Config are, and with an empty Store the one unnamed store.StoreInterface of the application, for
// everybody who takes it as such. What an application provides otherwise is not seen, and stays as it is, in clear:
//
//   - a store under a name, or in a value group, of fx (the module logs a warning that names them);
//   - a store that is taken as its own type, such as *redisstore.Store, or as another interface;
//   - what a function in an fx.Module takes that has an fx.Decorate or fx.Replace for the store of its own, if it puts
//     another store in its place instead of wrapping the one that it is given, which is sealed;
//   - a store that is not in the graph: kept by the function that made it, or in a variable;
//   - plaintext levels above: a Chain's first cache holds what it got, opened.
//
// Such a store is sealed by making it a cache of the Config, or with [middleware.New].
//
// # Caches
//
// A [Config] has any number of caches, side by side, sealed and clear. The one named "default" is the unnamed
// store.StoreInterface; [Named] provides others under their names, and [Caches] has them all. A cache is sealed unless
// it says clear; one that has no keys and does not say so is refused.
//
// # Settings
//
// [ConfigFromEnv] reads the variables of the second column for the cache "default", and those of the third for the
// cache NAME, which is written in capitals there and becomes lower case. [ConfigFromYAML] takes the settings of the
// first column under caches and the cache's name. Durations are Go's, as 90s or 24h; sizes are in bytes, in digits.
//
//	setting                   default cache                       other caches: SEALCACHE_CACHES_<NAME>_
//	store                     SEALCACHE_STORE                     ..._STORE
//	namespace                 SEALCACHE_NAMESPACE                 ..._NAMESPACE
//	clear                     SEALCACHE_CLEAR                     ..._CLEAR
//	ttl                       SEALCACHE_TTL                       ..._TTL
//	kek                       SEALCACHE_KEK                       ..._KEK
//	keyset                    SEALCACHE_KEYSET                    ..._KEYSET
//	keyset_reload             SEALCACHE_KEYSET_RELOAD             ..._KEYSET_RELOAD
//	data_keys.max_messages    SEALCACHE_DATA_KEYS_MAX_MESSAGES    ..._DATA_KEYS_MAX_MESSAGES
//	data_keys.max_bytes       SEALCACHE_DATA_KEYS_MAX_BYTES       ..._DATA_KEYS_MAX_BYTES
//	data_keys.max_age         SEALCACHE_DATA_KEYS_MAX_AGE         ..._DATA_KEYS_MAX_AGE
//	data_keys.cache           SEALCACHE_DATA_KEYS_CACHE           ..._DATA_KEYS_CACHE
//	data_keys.ttl             SEALCACHE_DATA_KEYS_TTL             ..._DATA_KEYS_TTL
//	plaintext                 SEALCACHE_PLAINTEXT                 ..._PLAINTEXT
//	plaintext_until           SEALCACHE_PLAINTEXT_UNTIL           ..._PLAINTEXT_UNTIL
//	miss_on_open_failure      SEALCACHE_MISS_ON_OPEN_FAILURE      ..._MISS_ON_OPEN_FAILURE
//	max_value_bytes           SEALCACHE_MAX_VALUE_BYTES           ..._MAX_VALUE_BYTES
//
//	jobs.cache                SEALCACHE_JOBS_CACHE
//	jobs.namespace            SEALCACHE_JOBS_NAMESPACE
//	jobs.prf_keyset           SEALCACHE_JOBS_PRF_KEYSET
//	jobs.compress_min_bytes   SEALCACHE_JOBS_COMPRESS_MIN_BYTES
//	jobs.max_payload_bytes    SEALCACHE_JOBS_MAX_PAYLOAD_BYTES
//	jobs.redis                SEALCACHE_JOBS_REDIS
//	jobs.queues               SEALCACHE_JOBS_QUEUES
//	jobs.strict_priority      SEALCACHE_JOBS_STRICT_PRIORITY
//	jobs.concurrency          SEALCACHE_JOBS_CONCURRENCY
//	jobs.shutdown_timeout     SEALCACHE_JOBS_SHUTDOWN_TIMEOUT
//	jobs.no_server            SEALCACHE_JOBS_NO_SERVER
//	jobs.hidden_types         SEALCACHE_JOBS_HIDDEN_TYPES
//	jobs.clear_until          SEALCACHE_JOBS_CLEAR_UNTIL
//	jobs.schedules.poll       SEALCACHE_JOBS_SCHEDULES_POLL
//	jobs.schedules.catch_up   SEALCACHE_JOBS_SCHEDULES_CATCH_UP
//	key_timeout               SEALCACHE_KEY_TIMEOUT
//
// plaintext is reject, read, seal-on-read or write; plaintext_until and jobs.clear_until are times as
// 2030-01-31T00:00:00Z; jobs.queues is critical=6,default=3 or, in YAML, a mapping. What each setting means is at the
// fields of [Cache], [DataKeys], [Jobs], [Schedules] and [Config]. Where a variable's name can be read in two ways,
// the longer setting is meant. A Kubernetes service named "sealcache" injects variables such as SEALCACHE_PORT, which
// are unknown here: switch enableServiceLinks off, or name it otherwise.
//
// In YAML:
//
//	caches:
//	  default:
//	    store: rediss://app@redis.example:6379/0?password_file=/run/secrets/redis
//	    namespace: shop
//	    kek: file:///run/secrets/kek.json
//	    ttl: 10m
//	  insecure:
//	    store: memory://?max_bytes=16MiB
//	    clear: true
//	jobs:
//	  redis: rediss://app@redis.example:6379/1?password_file=/run/secrets/redis
//	  namespace: shop
//	  prf_keyset: /run/secrets/prf.json
//	  queues: {critical: 6, default: 3}
//
// Printed, a Config shows no URL, path or password (but see [Config] for unexported fields). An error of this package shows no
// password, no name of a file or a variable, and of a URL the host and port alone, where a Redis does not answer.
//
// # Keys
//
// Each sealed cache seals under data keys ([aead.Envelope]) that its KEK wraps, or its keyset, which the KEK protects.
// The KEKs of key services come in as values of type [aead.KEKOpener] in the fx group "kek":
//
//	fx.Provide(fx.Annotate(newOpener, fx.As(new(aead.KEKOpener)), fx.ResultTags(`group:"kek"`)))
//
// Caches with the same keys share them. What is stored is bound to namespace and key, not to the store: caches that
// share keys should have namespaces of their own, and the module logs a warning if they do not.
//
// # Jobs
//
// Module also provides what jobs on asynq need, sealed: an *asynqjobs.Client to enqueue with, an *asynqjobs.Scheduler for
// periodic jobs, an *asynq.Inspector, and the *asynq.Server that runs them. They stand on one client of the Redis that
// Jobs.Redis names, or on the asynq.RedisConnOpt that the application provides, and on the keys of the cache that
// Jobs.Cache names. Nothing is made, and no connection opened, that nobody takes.
//
//	fx.Provide(newMux)        // func newMux(m *Mailer) *asynq.ServeMux, with the handlers: it makes this process a worker
//	fx.Invoke(scheduleDigest) // func scheduleDigest(lc fx.Lifecycle, s *asynqjobs.Scheduler)
//	fxmodule.Monitor(...)     // and the admin page
//
// The keys are always those of a cache. An application that has jobs only gives it the store memory://, which holds nothing:
//
//	SEALCACHE_STORE=memory://
//	SEALCACHE_KEK=file:///run/secrets/kek.json
//	SEALCACHE_JOBS_REDIS=redis://localhost:6379
//
// An application that provides an *asynq.ServeMux is a worker: the server starts with it, after everything that the mux's
// constructor depends on, and stops before that. Parts of an application may provide [Handlers] in the fx group "jobs"
// instead, each for its own jobs, to be added to the mux; with the same promise.
//
// List Module last among the options of a worker's fx.New. What opens or closes a thing may be a hook of a function that
// the application gives to fx.Invoke, and not of the thing's constructor; such a function may add handlers to the mux, too.
// fx runs the invoked functions of fx.Modules first, then those of the root in the order of their listing, and starts hooks
// in the order in which they were appended. The server's comes where Module stands: after the hooks of every fx.Module, and of
// what is invoked before Module. What is listed after Module starts after the first jobs may have begun, and stops before the
// last have ended; a start hook that waits for what a job does must be there.
//
// Whoever runs a server of his own, or starts the provided one himself, sets Jobs.NoServer, without which Module starts one
// too, and gives his the asynq.Handler, which is the mux, sealed; the mux itself must not be given to a server. An asynq.Config of the application says the rest (ErrorHandler,
// RetryDelayFunc, GroupAggregator and so on), without wrapping anything; what Jobs sets counts more.
//
// A cache without a namespace that is in the Redis of the jobs, or may be, refuses Clear, which would remove the queues. The
// module cannot keep the application's own Redis store from it, such as gocache's, whose Clear empties a whole server: it warns.
//
// The Scheduler runs in each process that takes it, and each tick is enqueued once all the same. The admin page,
// asynqmon with a login of the application's own, is [Monitor]: a program without it links no web interface.
//
// An existing asynq application drops the constructors of its client, its server and its inspector, and their life, and
// takes *asynqjobs.Client where it took *asynq.Client, whose tasks are in clear (the module warns of one in the graph). Module
// closes the connection: a Close of the client or the Inspector at stop is an error ("redis connection is shared").
//
// # Life
//
// Keys and stores are opened when the graph is built, in at most Config.KeyTimeout. At start each cache must prove
// itself: a sealed probe differs from what it was and opens again, and the store answers; otherwise the application does
// not start, and a [CacheError] says which cache and which part failed. [Health] repeats the check for a readiness
// endpoint. At stop, after everything that took a cache, the stores that were opened here are closed, then the keys.
// The application's own store is the application's to close. fx stops only what has started: if it is a hook of the
// application before these that fails at start, stores, keys and the jobs' Redis client stay open until the process ends.
//
// The jobs' Redis, if something needs it, must answer at start, or a [JobsError] says so. At stop the server takes no new
// tasks and waits for those that run, for as long as Jobs.ShutdownTimeout says, and then puts them back. Their Redis client
// is closed after the server and the Scheduler have stopped, and before the keys. If fx.StopTimeout ends first, the module
// says so, in the log and in the error of Stop, a second before, and leaves the rest of the time to the other hooks of the
// application, although tasks still run; what becomes of those is said at Jobs.ShutdownTimeout.
package fxmodule
