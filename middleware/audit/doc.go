// Package audit counts the values in Redis. It counts plaintext values, and sealed values for each encryption key. If you give
// it the keys, it also counts the values that do not open. It examines the data of asynq and package asynqjobs too. It writes
// nothing to Redis.
//
//	report, err := audit.Run(ctx, client, audit.Config{Namespace: "shop"})
//	answer, reasons := report.AnythingPlaintext()
//
// Begin with [Run]. The [Report] answers three questions:
//
//   - [Report.AnythingPlaintext]: does Redis hold any plaintext value?
//   - [Report.AnythingSealed]: does Redis hold any sealed value?
//   - [Report.MayDestroy]: may you destroy an encryption key?
//
// An answer is Yes, No or Unknown. If the audit cannot read or understand an entry, AnythingPlaintext and AnythingSealed are never
// No, and MayDestroy is never Yes. Entries that Config.Exclude or Config.OtherApplications leaves out do not count for
// AnythingPlaintext and AnythingSealed. With Config.Exclude, MayDestroy is never Yes.
//
// [Inspect] and [Open] examine one entry.
//
// # Limits
//
//   - An audit finds each entry that exists during the whole audit. It can miss entries that are created or deleted during the
//     audit. It can count an entry twice if the entry moves to another node.
//   - An audit never examines backups or other servers.
//   - An audit does not examine the names of entries and tags. These names are plaintext unless the application hides them.
//
// Errors and log lines contain no name and no value. The report contains names only if you set [Config.Samples]. Otherwise it
// contains only prefixes of names.
package audit
