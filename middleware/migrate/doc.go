// Package migrate moves data in Redis while the application uses it: plaintext to sealed, sealed under an old key to the
// present one, sealed to plaintext, and from one namespace or prefix to another. Package audit counts the result.
//
//	report, err := migrate.Run(ctx, client, migrate.Config{
//		Operation: migrate.Seal,
//		From:      migrate.Space{Namespace: "shop"},
//		Keys:      envelope, // the application's
//	})
//
// Begin with [Plan], which only reads and counts. Then call [Run] with DryRun, then without. docs/rollout.md shows how to
// turn encryption on in a running service. cmd/sealcache offers the same functions as a command.
//
// # Keys
//
// A run with other keys than the application's would make values unreadable to the application. So Run first opens the key
// check of each namespace, an entry that Store.Check of the application makes. If the key check does not open, Run returns
// ErrWrongKeys. Without a key check, Run needs Config.Proof or Config.AllowUnproven (ErrUnproven). Seal and Reseal also stop
// before the first write if none of the first sealed values opens. Calls to a failing key service are repeated for half a
// minute. An outage never makes a value count as unreadable.
//
// # What a run does
//
// It scans every master in batches. A script in Redis writes an entry only if it has not changed since it was read:
// plaintext is compared as a whole, a sealed value by its length and its last 16 bytes, which are random. So no write
// of the application is lost. In place, an entry keeps its expiry and its tags. Memory is bounded by a few megabytes,
// or a few values of Config.MaxValueBytes.
//
// A run leaves alone: entries that are not strings, names of asynq, key checks, values that do not open, and formats that
// this release does not know. Report.Left counts the entries that should have been changed and were not.
//
// Every run can be repeated. A run that was killed is resumed from its checkpoint, which holds the cursor of each master. A
// cursor is valid only in the process that gave it, so after a restart, a failover or a move of slots the scan begins
// again. Each database has a hash "sealcache.runs", by which a checkpoint notices a run that has undone its work.
//
// Redis replicates with a delay, so a failover loses the last writes of the old master. A run ends as complete only when
// every replica has what was written, and when no master failed over or restarted after its scan. Otherwise it returns
// ErrUnconfirmed: run it again. Replicas that the server does not show, as some managed services do, are not waited for.
//
// Between the masters of a Cluster, an old entry is deleted only after its copy was read back, and after every replica of
// the copy's master has confirmed the copy and its tags. So a failover loses neither. If a master has lost a replica, or if a
// replica does not answer for 15 s, nothing more is deleted, and Run returns ErrUnconfirmed. Config.AllowFewerReplicas accepts
// the replicas that are left. A master without replicas confirms for itself: if it restarts from an older file, copies on it
// are lost. So are copies on a master that restarts before a replica takes over, as with every write.
//
// Replicas of replicas are not waited for.
//
// # Moving names
//
// With Config.To entries get other names, and gocache's tag sets are rewritten with their members. If only the namespace of
// tags changes, the members are copied to the tags that the application uses now. Stop the writers to the old names first.
// A name that is taken is not overwritten, unless it holds the same value with the same expiry. With Config.DeleteOld the
// old entry is deleted after the new one was read back and opened.
//
// # Hidden names
//
// With Config.HiddenKeys or OneWayKeys, entries end up under the pseudonyms of the primary PRF key. Reseal moves entries from
// older PRF keys, Seal also those under plain names. The old entry is always deleted.
//
// Make the new PRF key primary in every process first. The application may then read and write as usual. On a single node an
// entry is moved in one step. In a Cluster the entry is under both names for a moment. If the application changes it in that
// moment, the move is undone.
//
// A process that asks for both names one after the other can miss an entry that is moved in between. Processes with plain
// names do not find hidden entries: stop them before Seal, or use another namespace.
//
// Without HiddenKeys, hidden names stay as they are. Reseal needs no PRF key.
//
// # Values
//
// A plaintext value in Redis is text without a Go type. It is sealed as []byte unless Config.As says otherwise, as
// middleware.SealOnRead does over redisstore, so that the two can run side by side. A value of gocache's
// marshaler is also []byte. A cache.New[string] needs AsString.
//
// No error or log line holds a value or the name of a key. Redis 7.0 or newer is needed to move names, 6.2 for the rest.
package migrate
