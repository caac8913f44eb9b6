// Package sealcache contains only documentation. The packages in its subdirectories seal the data that Go services keep in
// caches, job queues and HTTP sessions. To seal is to encrypt so that altered data is detected.
//
// Each value is sealed before it leaves the process, with Tink, Google's cryptography library. An operator of Redis, or an
// attacker with a dump, cannot read a value. Without the encryption keys, an attacker cannot forge a value, or move it to
// another cache key. SECURITY.md states the limits. FORMAT.md specifies the stored bytes.
//
// # Where to begin
//
//   - You use gocache (github.com/eko/gocache): wrap its store with [github.com/sealcache/sealcache/middleware.New].
//   - You use fx (go.uber.org/fx): add [github.com/sealcache/sealcache/fxmodule.Module] to fx.New and provide a Config.
//   - You enqueue jobs with asynq (github.com/hibiken/asynq): see package
//     [github.com/sealcache/sealcache/middleware/jobs/asynqjobs]. With fx, see package fxmodule/fxjobs.
//   - You keep HTTP sessions with scs, gorilla/sessions, gin or echo: see package
//     [github.com/sealcache/sealcache/middleware/sessions].
//   - You use Redis, memcached or a database without gocache: seal with
//     [github.com/sealcache/sealcache/middleware.Sealer].
//   - You have plaintext in Redis already: read docs/rollout.md, then run the command cmd/sealcache.
//
// A program needs encryption keys from package aead, and a store or queue for the sealed values. The README has one
// complete program. The directory examples has one program for each of these uses.
//
// # Packages
//
//   - aead: encryption keys. Most applications use its Envelope.
//   - aead/awskms: keys in AWS KMS, a separate module.
//   - aead/gcpkms: keys in Google Cloud KMS, a separate module.
//   - aead/gocloud: keys in Azure Key Vault, a separate module.
//   - aead/hcvault: keys in HashiCorp Vault, a separate module.
//   - aead/insecurecleartextkeyset: keysets in plaintext, for development and tests.
//   - aead/aeadtest: tests for your own key services and AEADs.
//   - middleware: Store seals the values of a gocache store. Sealer seals values for any other store.
//   - middleware/jobs: seals the data of jobs for any queue. Package asynqjobs is for asynq, and asynqjobs/monitor is the
//     admin page of the jobs.
//   - middleware/sessions: seals HTTP sessions for scs. Package gorillasessions is for gorilla/sessions, and so for gin and echo.
//   - middleware/migrate: seals existing data in Redis.
//   - middleware/audit: counts sealed and plaintext values in Redis.
//   - stores: packages redisstore and memorystore are gocache stores with additional methods. Package storetest is a test
//     suite for gocache stores.
//   - fxmodule: sealed caches for fx, from one Config. Package fxjobs adds jobs on asynq.
//   - cmd/sealcache: the command for existing data and for keys, a separate module.
//   - benchmarks: a program that measures what sealing costs.
package sealcache
