// Package migrate changes cached data in Redis while the application runs. It has three operations. [Seal] seals (encrypts)
// plaintext values. [Reseal] seals values again with a new key. [Unseal] turns sealed values back into plaintext. A run can
// also give entries new names.
//
//	report, err := migrate.Run(ctx, client, migrate.Config{
//		Operation: migrate.Seal,
//		From:      migrate.Space{Namespace: "shop"}, // the entries whose Redis keys begin with "shop:"
//		Keys:      envelope, // the encryption keys of the application
//	})
//
// First call [Plan], which counts what Redis contains. Then call [Run] with DryRun set: it tests the keys and the
// permissions, and writes nothing. Then call Run without DryRun. Package audit can check the result. docs/rollout.md shows
// how to turn encryption on in a running service. The command cmd/sealcache does the same as this package.
//
// # Keys
//
// A run needs the encryption keys of the application. With other keys, the application could not read the values that the
// run writes. So Run tests the keys before it writes. It opens the entry sealcache.key-check, which the application writes
// when it calls middleware.Store.Check. If this entry does not open, Run returns [ErrWrongKeys]. If the entry does not
// exist, set Config.Proof to the key of another entry that the application has sealed. Otherwise Run returns
// [ErrUnproven].
//
// # What a run does
//
// A run scans every master in batches. It writes an entry only if the application has not changed it since the run read it.
// So a run never overwrites a newer value. Entries keep their expiration and their tags. Tags are the labels by which
// gocache deletes several entries at once.
//
// A run does not change the following:
//
//   - Redis keys of other types than string, except the sets of tags (see below)
//   - the Redis keys of asynq, a job queue
//   - values that do not open, and values in a format that this release does not know
//
// The method Report.NotChanged returns how many entries the run should have changed but did not change, such as values that
// do not open. The fields of the Report count these entries by reason.
//
// Every run can be repeated. To resume a run that was killed, set Config.Checkpoint. At the end, a run waits until the
// replicas have its writes. If a replica does not confirm them, Run returns [ErrUnconfirmed]. Then call Run again.
//
// Before some runs that change names, you must stop processes of the application. Before a run with Config.To, stop every
// process that writes to the old names. Config.HiddenKeys and Config.OneWayKeys replace names by pseudonyms. Before Seal
// with one of them, stop every process that does not hide names yet. The comments of these fields describe the details.
//
// For each tag, gocache keeps a Redis set that holds the names of the entries. Runs that change names of entries also change
// these sets. A Store with a namespace looks for a tag in another set, whose name begins with the namespace. So Seal with
// Config.From.Namespace copies the names of entries into that set.
//
// Runs that change names need Redis 7.0 or newer. Seal with Config.From.Namespace also needs Redis 7.0 if entries have tags.
// All other runs need Redis 6.2 or newer.
//
// No error or log line contains a value or the name of an entry.
package migrate
