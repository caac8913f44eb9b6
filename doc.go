// Package sealcache contains only documentation. The module seals the data that Go services keep in caches, job queues and HTTP
// sessions.
//
// Each value is sealed with Tink's authenticated encryption before it leaves the process. Neither the operator of Redis nor the
// holder of a dump can read the value. Without the encryption keys, an attacker cannot forge a value, or move a value to another
// cache key. SECURITY.md states the limits. FORMAT.md specifies the stored bytes.
//
// # Where to begin
//
//   - You have a gocache store: wrap it with [github.com/sealcache/sealcache/middleware.New].
//   - You use fx: add [github.com/sealcache/sealcache/fxmodule.Module] to fx.New and provide a Config.
//   - You enqueue jobs with asynq: see package
//     [github.com/sealcache/sealcache/middleware/jobs/asynqjobs], or package fxmodule/fxjobs with fx.
//   - You keep HTTP sessions with scs, gorilla/sessions, gin or echo: see package
//     [github.com/sealcache/sealcache/middleware/sessions].
//   - You use Redis, memcached or a database without gocache: seal with
//     [github.com/sealcache/sealcache/middleware.Sealer].
//   - You have plaintext in Redis already: read docs/rollout.md, then run the command cmd/sealcache.
//
// A program needs encryption keys from package aead, and a store or queue for the sealed values. The README has one complete
// program. The directory examples has one program per use.
//
// # Packages
//
//   - aead: encryption keys. A Keyring is a Tink keyset that can be reloaded. An Envelope makes data keys, which a key-encryption
//     key (KEK) encrypts.
//   - aead/awskms, aead/gcpkms, aead/gocloud and aead/hcvault: KEKs in key services. Each is a separate module.
//   - middleware: Store seals the values of a gocache store. Sealer seals values for any other store.
//   - middleware/jobs: seals job payloads for any queue. Package asynqjobs is for asynq.
//   - middleware/sessions: seals HTTP sessions. Package gorillasessions is for gorilla/sessions.
//   - middleware/migrate: seals existing data in Redis.
//   - middleware/audit: counts sealed and plaintext values in Redis.
//   - stores: redisstore and memorystore are gocache stores with additional methods. storetest is their test suite.
//   - fxmodule: dependency injection from one Config. fxmodule/fxjobs adds jobs on asynq.
//   - cmd/sealcache: the command line, a separate module.
package sealcache
