// Package migrate changes cached data in Redis while the application runs. It seals plaintext values, seals values again under
// a new key, and turns sealed values back into plaintext. It can also move entries to another namespace or prefix. Package audit
// counts the result.
//
//	report, err := migrate.Run(ctx, client, migrate.Config{
//		Operation: migrate.Seal,
//		From:      migrate.Space{Namespace: "shop"},
//		Keys:      envelope, // the application's
//	})
//
// Begin with [Plan]. It only reads and counts. Then call [Run] with DryRun set, and then without DryRun. docs/rollout.md shows
// how to turn encryption on in a running service. The command cmd/sealcache has the same functions.
//
// # Keys
//
// A run needs the encryption keys of the application. Under other keys, the application could not read the values that the run
// writes. So Run tests the keys before it writes:
//
//   - Run opens the key check of each namespace. The key check is an entry that middleware.Store.Check writes. If it does not
//     open, Run returns ErrWrongKeys.
//   - Without a key check, Run needs Config.Proof or Config.AllowUnproven. Otherwise it returns ErrUnproven.
//   - Seal and Reseal also try some sealed values first. If none of them opens, Run returns ErrWrongKeys, unless
//     Config.IgnoreUnreadable is set.
//
// If the key service fails, Run repeats the call for half a minute. A value never counts as unreadable because of an outage.
//
// # What a run does
//
// A run scans every master in batches. A script in Redis writes an entry only if its value has not changed since the run read it.
// Of a plaintext value, the script compares all bytes. Of a sealed value, it compares the length and the last 16 bytes, which
// differ for each value. So a run never overwrites a newer value of the application.
//
// A run without Config.To keeps the expiration and the tags of an entry. The run needs a few megabytes of memory, or a few times
// Config.MaxValueBytes if that is more.
//
// A run does not change the following:
//
//   - entries of other Redis types than string
//   - keys of asynq
//   - key checks, except that Reseal seals them again at the end
//   - values that do not open, and values in a format that this release does not know
//
// Report.Left counts the entries that the run should have changed but did not change.
//
// # Repeating and resuming
//
// Every run can be repeated. With Config.Checkpoint, the same Config resumes a run that was killed. The checkpoint file holds the
// SCAN cursor of each master. A cursor is valid only in the redis-server process that returned it. After a restart, a failover or
// a move of slots, the scan begins again.
//
// Each run leaves a record in the hash "sealcache.runs" of its database. A resumed run reads the hash. If another run has undone
// its work, Run returns ErrCheckpoint.
//
// # Replicas and failovers
//
// Redis replicates with a delay. So a failover can lose the last writes of the old master. A run is complete only if every replica
// has all its writes, and no master failed over or restarted after its scan. Otherwise Run returns ErrUnconfirmed. Call Run again.
//
// Run does not wait for replicas of replicas, nor for replicas that the server hides, as some managed services do.
//
// In a Cluster, a run can move an entry to another master. It copies the entry, reads the copy, and waits until every replica of
// the copy's master has confirmed the copy and its tags. Only then does it delete the old entry. So a failover loses neither.
//
//   - If a master has lost a replica, or a replica does not answer for 15 s, the run deletes nothing more. Run returns
//     ErrUnconfirmed, and the checkpoint resumes it. With Config.AllowFewerReplicas, the replicas that are left are enough.
//   - A master without replicas confirms for itself. If it restarts from an older file, the copies on it are lost.
//   - If a master restarts before a replica takes over, the copies on it are lost too, like every other write.
//
// # Moving names
//
// Before you call Run with Config.To, stop every process that writes to the old names. The run writes each entry under its new name,
// and adds the new name to the sets of gocache's tags. If a prefix of the names becomes a namespace, the entries keep their
// names. The run then copies the names into the sets of the namespace's tags.
//
// A run does not overwrite an existing entry. If that entry has the same value and the same expiration, the entry counts as moved.
// With Config.DeleteOld, the run reads and opens the new entry, and then deletes the old entry.
//
// # Hidden names
//
// middleware.WithHiddenKeys stores an entry under a pseudonym, which a PRF key makes from the name. With Config.HiddenKeys, a run
// does the following:
//
//   - Seal moves entries to the pseudonyms of the primary PRF key, from plain names and from older PRF keys.
//   - Reseal moves entries from older PRF keys to the primary PRF key.
//   - Unseal moves entries back to their plain names.
//
// The run always deletes the old entry. With Config.OneWayKeys, entries that are already hidden keep their names, because the
// run cannot compute new ones. Without either setting, all hidden names stay as they are. Reseal then needs no PRF key.
//
// Before the run, make the new PRF key primary in every process. A process without WithHiddenKeys does not find hidden
// entries. Stop all such processes before Seal, or use another namespace.
//
// The application can read and write during the run. On a single node, a run moves an entry in one step. In a Cluster, the
// entry exists under both names for a moment. If the application changes it in this moment, the run undoes the move. A
// process that looks under one name and then under the other can miss an entry that the run moves in between.
//
// # Values
//
// A plaintext value in Redis has no Go type. Seal treats it as []byte, unless Config.As sets another type. middleware.SealOnRead
// does the same over redisstore, so both can run at the same time. The default is also right for gocache's marshaler. Use AsString
// for a cache.New[string].
//
// No error or log line contains a value or the name of an entry. A run that changes names needs Redis 7.0 or newer. All other runs
// need Redis 6.2.
package migrate
