// Package fxmodule adds sealed caches to an application that is built with go.uber.org/fx. A sealed cache encrypts each
// value before it stores the value. From one [Config], the package provides keys, stores, caches, an Encryptor for the
// data of jobs, and a health check. Give [Module] to fx.New, and provide the Config:
//
//	fx.New(
//		fx.Provide(fxmodule.ConfigFromEnv),
//		fxmodule.Module,
//		fx.Provide(NewProfiles), // func NewProfiles(s store.StoreInterface) *Profiles
//	).Run()
//
// Each constructor that takes a store.StoreInterface of gocache (github.com/eko/gocache) gets the sealed cache. Module
// also opens the store of the cache. If the application already provides a store.StoreInterface, use [Decorator] instead
// of Module. Decorator seals the provided store. It does not seal stores of other types, or stores with an fx name: see
// the comment of Decorator.
//
// [Sessions] provides a store for HTTP sessions. For jobs on asynq, a job queue in Redis, add package fxjobs.
//
// # Settings
//
// [ConfigFromEnv] and [ConfigFromYAML] read a Config. Unknown settings are errors. docs/fx.md lists all settings with
// examples. A printed Config shows no URL, path or password. Errors contain no password.
//
// A Config has any number of caches. The module provides the cache with the name "default" as store.StoreInterface and
// *middleware.Store. [Named] provides further caches: each cache gets its name as its fx name. [Caches] finds a cache by
// a name that is known only at run time.
//
// A cache is sealed unless its field Unsealed is true. A sealed cache without keys is an error. A cache that an application
// puts in front of a sealed cache holds plaintext. An example is the first level of a gocache Chain.
//
// The namespace of a cache is a prefix of the names of its entries in the store. Each cache needs a namespace if there are
// several caches, or jobs. Without a namespace, Clear would empty the whole store, so this package makes Clear return an
// error.
//
// # Keys
//
// Data keys encrypt the values. The module makes the data keys. The data keys are stored encrypted under a key-encryption
// key (KEK). The setting KEK is the URI of this key. With the setting Keyset, the keys of a keyset (a file with Tink keys)
// encrypt the data keys, and the KEK encrypts the keyset. Caches share data keys if all their settings about keys are the
// same. Each key service has a package with a type Opener, such as package aead/awskms for AWS KMS. To use a KEK in a key
// service, provide this Opener in the fx group "kek":
//
//	fx.Provide(fx.Annotate(newOpener, fx.As(new(aead.KEKOpener)), fx.ResultTags(`group:"kek"`)))
//
// # Start and stop
//
// The function fx.New opens keys and stores. Config.KeyTimeout limits how long fx.New may take to open them. When the
// application starts, the module checks each cache: the keys must seal and open a test value, and the store must answer a
// ping. If a check fails, the application does not start. The error is a [CacheError], which contains the name of the
// cache. [Health] repeats the checks.
//
// At stop, the parts of the application that use a cache stop first. Then the stores that this package opened are closed,
// and then the keys. A store that the application provides is not closed.
package fxmodule
