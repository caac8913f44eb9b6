// Package fxmodule adds sealed caches to an application that uses go.uber.org/fx. From one [Config] it provides keys, stores, caches,
// a jobs.Encryptor and a health check.
//
//	fx.New(
//		fx.Provide(fxmodule.ConfigFromEnv),
//		fxmodule.Module,
//		fx.Provide(NewProfiles), // func NewProfiles(s store.StoreInterface) *Profiles
//	).Run()
//
// If the application already provides a gocache store.StoreInterface, use [Decorator] instead of [Module]. Leave the setting Store
// of the cache "default" empty. Every constructor that takes the store then gets the sealed store.
//
// [Sessions] provides a store for HTTP sessions over a sealed cache. For jobs on asynq, use package fxjobs. Package fxmodule does
// not import asynq.
//
// # Caches
//
// A Config has any number of caches, sealed and unsealed. The module provides the cache "default" as store.StoreInterface and
// *middleware.Store. [Named] provides other caches under their names. [Caches] has all of them. A cache is sealed unless its field
// Unsealed is true. The module refuses a Config in which a cache has no keys and is not Unsealed.
//
// The namespace of a cache separates its entries from all other entries in the store. With several caches, or with jobs, each
// cache needs a namespace. Clear fails on a cache without a namespace, because it would empty the whole store.
//
// The module seals only the caches of the Config. It does not change the following stores of the application. Seal them with
// [middleware.New]:
//
//   - a store with an fx name, or in an fx group
//   - a store that is provided under its own type, such as *redisstore.Store
//   - a store outside the fx graph
//
// A cache in front of a sealed cache, such as the first level of a gocache Chain, holds plaintext.
//
// # Settings
//
// [ConfigFromEnv] and [ConfigFromYAML] read a Config. Unknown settings are errors. docs/fx.md lists all settings with examples. The
// printed form of a Config shows no URL, path or password. Errors contain no password. They name the file or variable that is
// missing.
//
// # Keys
//
// Each sealed cache has an [aead.Envelope]. The KEK of the cache wraps its data keys. If the setting Keyset is given, the Keyset
// wraps the data keys, and the KEK only opens the Keyset. Caches with the same keys share them. The KEKs of key services come from
// values of type [aead.KEKOpener] in the fx group "kek":
//
//	fx.Provide(fx.Annotate(newOpener, fx.As(new(aead.KEKOpener)), fx.ResultTags(`group:"kek"`)))
//
// # Start and stop
//
// fxmodule opens keys and stores while fx builds the graph. Config.KeyTimeout limits the time for this. At start, fxmodule checks each
// cache: it seals a test value, opens it again, and pings the store. If a check fails, the application does not start. A
// [CacheError] names the cache and the part that failed. [Health] repeats the check.
//
// At stop, fx first stops the parts of the application that use a cache. Then fxmodule closes the stores that it opened, and then
// the keys. It does not close a store that the application provides. fxmodule gives up closing
// shortly before fx.StopTimeout.
package fxmodule
