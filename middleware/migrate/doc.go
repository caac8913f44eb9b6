// Package migrate changes cached data in Redis while the application runs. It has three operations. [Seal] seals
// (encrypts) plaintext values. [Reseal] seals values again with a new key. [Unseal] turns sealed values back into
// plaintext. A run can also give entries new names.
//
//	report, err := migrate.Run(ctx, client, migrate.Config{
//		Operation: migrate.Seal,
//		From:      migrate.Space{Namespace: "shop"},
//		Keys:      envelope, // the application's
//	})
//
// First call [Plan], which only reads and counts. Then call [Run] with DryRun set, and then without. Package audit can
// check the result. docs/rollout.md shows how to turn encryption on in a running service. The command cmd/sealcache does
// the same as this package.
//
// # Keys
//
// A run needs the encryption keys of the application. With other keys, the application could not read the values that the
// run writes. So Run tests the keys before it writes:
//
//   - Run opens the key check, an entry that the application writes when it calls middleware.Store.Check. If the key check
//     does not open, Run returns [ErrWrongKeys].
//   - If there is no key check, Run opens the entry that Config.Proof names. Without Config.Proof, Run returns
//     [ErrUnproven], unless Config.AllowUnproven is set.
//   - If Redis already holds sealed values, Seal and Reseal try to open some of them. If none opens, Run returns
//     ErrWrongKeys, unless Config.IgnoreUnreadable is set.
//
// If the key service does not answer, Run repeats the call for half a minute. A value never counts as unreadable because
// of an outage.
//
// # What a run does
//
// A run scans every master in batches. It writes an entry only if the application has not changed it since the run read
// it. So a run never overwrites a newer value. Entries keep their expiration and their tags. Tags are the labels by which
// gocache invalidates several entries at once.
//
// A run does not change the following:
//
//   - entries of other Redis types than string
//   - keys of asynq, a job queue
//   - values that do not open, and values in a format that this release does not know
//
// Report.NotChanged counts the entries that the run should have changed but did not change.
//
// A run needs a few megabytes of memory, or a few times Config.MaxValueBytes if that is more.
//
// # Repeating and resuming
//
// Every run can be repeated. If you set Config.Checkpoint to the name of a file, a run writes its position there. If the
// run is killed, call Run again with the same Config to resume it. After a restart of Redis, a failover, or a change of a
// Cluster, the scan begins again.
//
// Each run leaves a record in the hash "sealcache.runs" of its database. If another run has undone the work of an
// interrupted run, the interrupted run cannot be resumed. Run then returns [ErrCheckpoint].
//
// # Replicas and failovers
//
// A replica gets the writes of its master a little later. If a replica takes over from its master before that, the last
// writes are lost (a failover). So at the end, Run waits until every replica has confirmed the writes. If a replica does
// not confirm them, or a master restarted or failed over after its scan, Run returns [ErrUnconfirmed]. Then call Run
// again.
//
// Run does not wait for replicas of replicas, or for replicas that the server hides, as some managed services do.
//
// # Moving entries to new names
//
// With Config.To, a run copies each entry to a new name. Before you call Run, stop every process that writes to the old
// names. With Config.DeleteOld, the run opens the copy, and then deletes the old entry. It also updates gocache's tags, so
// that invalidation finds the new names.
//
// A run does not overwrite an existing entry. If that entry has the same value and the same expiration, the entry counts
// as moved.
//
// In a Cluster, the new name can be on another master. The run deletes the old entry only after every replica of that
// master has confirmed the copy. So a failover cannot lose both the copy and the old entry. But if a master restarts from
// an older file, and no replica has taken over from it, the copies on it are lost.
//
// If a master has lost a replica, or a replica does not answer for 15 s, the run deletes nothing more and returns
// ErrUnconfirmed. Call Run again to resume it. If the replica was removed for good, set Config.AllowFewerReplicas.
//
// # Hidden names
//
// An application with middleware.WithHiddenKeys stores entries under pseudonyms. A key of a pseudorandom function (PRF)
// makes a pseudonym from the name. With Config.HiddenKeys, a run does the following:
//
//   - Seal moves entries from plain names, and from pseudonyms of older PRF keys, to the pseudonyms of the primary PRF
//     key.
//   - Reseal moves entries from pseudonyms of older PRF keys to those of the primary PRF key.
//   - Unseal moves entries back to their plain names.
//
// The run deletes each old entry. With WithHiddenKeys, each sealed value contains the name of its entry. With
// middleware.WithOneWayKeys, it does not, so a run cannot compute new pseudonyms: set Config.OneWayKeys instead. Entries
// that are already hidden then keep their pseudonyms. Without either setting, all hidden names stay as they are.
//
// Before the run, make the new PRF key primary in every process. A process without WithHiddenKeys does not find hidden
// entries. So before Seal, stop all such processes.
//
// The application can read and write during the run, unless Config.To is set. On a single node, a run moves an entry in one
// step. In a Cluster, the entry exists under both names for a moment. If the application changes or deletes it in this
// moment, the run undoes the move.
//
// A run in a Cluster may be killed, or a server may not answer. Then a copy can stay under the new name next to the old entry.
// The next run keeps the copy and deletes the old entry. If the application has changed the old entry between the two runs, the
// change is lost. So repeat such a run at once. docs/hiding.md lists all cases, and what the application can see during a
// run.
//
// # Types of values
//
// A plaintext value in Redis has no Go type. Seal treats it as []byte, unless Config.As sets another type. This is right
// for values of gocache's marshaler. For a cache.New[string], set AsString.
//
// No error or log line contains a value or the name of an entry. A run that changes names needs Redis 7.0 or newer. All
// other runs need Redis 6.2.
package migrate
