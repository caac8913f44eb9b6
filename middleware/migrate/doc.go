// Package migrate moves what lies in Redis: clear to sealed, sealed under an old key to the present one, sealed to
// clear, and from one namespace or prefix to another, beside the application that uses it; and it counts what is there.
//
//	report, err := migrate.Run(ctx, client, migrate.Config{
//		Operation: migrate.Seal,
//		From:      migrate.Space{Namespace: "shop"},
//		Keys:      envelope, // the application's
//	})
//
// [Run] changes, [Audit] counts, [Inspect] and [Open] look at one entry. docs/rollout.md describes how to turn
// encryption on in a running service with them; cmd/sealcache is the same as a command.
//
// # What a run does
//
// It reads names with SCAN on every master, in batches, and what they hold in pipelines. Each entry is written only if it
// still holds what was read, by a script in Redis: clear values are compared as a whole, sealed ones by length and last 16
// bytes, which are random. So no write of the application is lost: an entry that changed meanwhile is read again. In
// place, the entry keeps its expiry, as Redis has it, and its tags. Memory is bounded by Config.Workers times a few
// megabytes, or the largest value, whatever the number of entries.
//
// What a run does not change: entries of other types than strings, which are counted; names that begin with "asynq:" (what
// a job queue keeps, whose sealing is jobs' matter); values that do not open, and those that are sealed in a form that
// this release does not know. [Report.Left] is the number of entries that should have been changed and were not.
//
// Everything can be done again: an entry that is already as it should be is left alone. A run that was killed is resumed
// from its checkpoint, which holds for each master the SCAN cursor up to which all is done, and the run id of that server:
// a cursor means something only to the process that gave it, so after a restart or a failover, or if slots have moved, the
// scan of that server starts again.
//
// # Moving names
//
// With Config.To entries get other names, and gocache's tag sets are rewritten with their members. Tags of a store with a
// namespace begin with it; where only that changes, or Seal is given a namespace whose names were tagged without one, the
// members are copied to the tags that the application uses now. Other names are not safe beside writers: those to the old
// names stop first. A name that is taken is not overwritten, unless what it holds is the same, value and expiry.
// With Config.DeleteOld the old entry is deleted, after the new one was read back and opened, if it is still what was read.
//
// # Values
//
// A clear value in Redis is text, without a Go type. It is sealed as []byte unless Config.As says otherwise, just as
// middleware.SealOnRead does over redisstore, so that the two can run side by side. What gocache's marshaler wrote is
// []byte to it. A cache.New[string] wants AsString.
//
// No error, log line or report holds a value or the name of a key, except samples of names that AuditConfig.Samples asks
// for. Redis 7.0 or newer is needed to move names, 6.2 for the rest.
package migrate
