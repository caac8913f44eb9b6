// Package audit counts plaintext values and sealed (encrypted) values in Redis. It counts sealed values for each encryption
// key. It writes nothing to Redis.
//
//	report, err := audit.Run(ctx, client, audit.Config{Namespace: "shop"})
//	answer, reasons := report.AnythingPlaintext()
//
// An audit needs no encryption keys. If you set Config.Keys, it also counts the sealed cache values that these keys do not
// open. If both Config.Namespace and Config.Prefix are empty, it also examines the data of asynq, a job queue.
//
// Begin with [Run]. The [Report] answers three questions:
//
//   - [Report.AnythingPlaintext]: does Redis hold any plaintext value?
//   - [Report.AnythingSealed]: does Redis hold any sealed value?
//   - [Report.MayDestroy]: may you destroy an encryption key? Yes means that no value in the examined Redis needs it. Yes does
//     not cover backups: a backup may still need the key.
//
// An answer is Yes, No or Unknown. If the audit cannot examine an entry, it never answers No to the first two questions, and
// never Yes to the third. With Config.Namespace, Config.Prefix or Config.Exclude, MayDestroy is never Yes, because an entry
// that was not examined may need the key.
//
// For one entry, [Inspect] describes what Redis holds, and [Open] also decrypts it.
//
// # Limits
//
//   - An audit finds each entry that exists during the whole audit. It can miss entries that are created or deleted during
//     the audit. It can count an entry twice if the entry moves to another node of the Redis Cluster.
//   - An audit examines only the server or Cluster of its client, and no backups.
//   - The three answers do not cover the names of entries and tags. These names are plaintext unless the application hides
//     them.
//
// Errors and log lines contain no name of an entry and no value. The report contains names only if you set [Config.Samples].
// Otherwise it contains only prefixes of names. [Report] describes the form of names in JSON.
package audit
