// Package sealcache holds documentation only. The module seals what Go services keep in caches and job queues.
//
// A value is sealed with Tink's authenticated encryption before it leaves the process. The operator of the Redis, or
// the holder of a dump, cannot read it. Without the encryption keys, an attacker cannot make the application accept a
// value that it did not write under that cache key. SECURITY.md states the limits; FORMAT.md specifies the stored bytes.
//
// # Where to begin
//
//   - You have a gocache store: wrap it with [github.com/sealcache/sealcache/middleware.New].
//   - You use fx: list [github.com/sealcache/sealcache/fxmodule.Module] and provide a Config.
//   - You enqueue jobs with asynq: see package
//     [github.com/sealcache/sealcache/middleware/jobs/asynqjobs], or package fxmodule/fxjobs with fx.
//   - You use Redis, memcached or a database without gocache: seal with
//     [github.com/sealcache/sealcache/middleware.Sealer].
//   - You have plaintext in Redis already: read docs/rollout.md, then run the command cmd/sealcache.
//
// # Packages
//
//   - aead: keys. Keyring is a live Tink keyset. Envelope makes data keys under a key-encryption key (KEK).
//   - middleware: Store, the gocache decorator; Sealer, the same sealing for any other store.
//   - middleware/jobs: the encryptor of job payloads, for any queue; asynqjobs is for asynq.
//   - middleware/migrate and middleware/audit: move live data in Redis, and count what is sealed.
//   - stores: redisstore and memorystore, gocache stores with more capabilities; storetest is their conformance suite.
//   - fxmodule: dependency injection from one Config; fxmodule/fxjobs adds jobs on asynq.
//   - cmd/sealcache: the command line, a separate module.
//
// A program needs two things: encryption keys from package aead, and a store or queue that package middleware wraps. The
// README has one complete program; the directory examples has one program per use.
package sealcache
