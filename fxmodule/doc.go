// Package fxmodule adds sealed caches to an application that is built with go.uber.org/fx: keys, stores, caches, the
// encryptor of background jobs, and a health check, from one [Config].
//
//	fx.New(
//		fx.Provide(fxmodule.ConfigFromEnv),
//		fxmodule.Module,
//		fx.Provide(NewProfiles), // func NewProfiles(s store.StoreInterface) *Profiles
//	).Run()
//
// An application that provides a gocache store.StoreInterface lists [Decorator] instead of [Module], and leaves Store of
// the cache "default" empty. Every function that takes the store then gets it sealed.
//
// Jobs on asynq are in package fxjobs. fxmodule links no queue.
//
// # Caches
//
// A Config has any number of caches, sealed and unsealed. The one named "default" is provided as store.StoreInterface and
// *middleware.Store. [Named] provides others under their names, and [Caches] has all of them. A cache is sealed unless it
// is Unsealed. A Config with a cache that has neither keys nor Unsealed is refused.
//
// A namespace keeps the entries of a cache apart from everything else in its store. It is required with several caches, and
// with jobs. A cache without one refuses Clear, which would empty the whole store.
//
// Only these caches are sealed. fxmodule does not touch a store that the application provides under a name, in a group,
// under its own type (such as *redisstore.Store), or outside the graph. Seal such a store with [middleware.New]. A cache in front of a sealed one, such as the first level of a gocache Chain, holds plaintext.
//
// # Settings
//
// [ConfigFromEnv] and [ConfigFromYAML] read a Config. Unknown settings are errors. docs/fx.md lists all settings with
// examples. Printed, a Config shows no URL, path or password. Errors show no password, and name the file or variable that
// is missing.
//
// # Keys
//
// Each sealed cache seals under data keys ([aead.Envelope]) that its KEK wraps, or a Keyset that the KEK protects. Caches
// with the same keys share them. The KEKs of key services come from values of type [aead.KEKOpener] in the fx group "kek":
//
//	fx.Provide(fx.Annotate(newOpener, fx.As(new(aead.KEKOpener)), fx.ResultTags(`group:"kek"`)))
//
// # Start and stop
//
// fx opens keys and stores when it builds the graph, within Config.KeyTimeout. At start each cache checks itself: a sealed
// probe differs from its plaintext and opens again, and the store answers. If a check fails, the application does not start,
// and a [CacheError] names the cache and the part that failed. [Health] repeats the check.
//
// At stop, fx first stops the parts of the application that use a cache. Then the stores that this package opened are closed,
// and last the keys. An application that provides a store closes that store itself. Closing ends before fx.StopTimeout does.
package fxmodule
