// Package audit counts the entries in Redis: plaintext, sealed values by key, and, with keys, values that do not
// open. It includes what asynq and package asynqjobs keep there. It only reads.
//
//	report, err := audit.Run(ctx, client, audit.Config{Namespace: "shop"})
//	answer, reasons := report.AnythingPlaintext()
//
// Begin with [Run]. [Report.AnythingPlaintext] answers whether an entry is plaintext, [Report.AnythingSealed] whether an
// entry is sealed, and [Report.MayDestroy] whether an encryption key may be destroyed. An answer is Yes, No or Unknown: an entry that the audit has not
// read, or does not understand, never leads to a reassuring answer. [Inspect] and [Open] look at one entry.
//
// An audit sees each entry that exists from its start to its end. It may miss entries that come and go, and may count an
// entry twice that moves. Its scope never includes backups and other servers. It does not examine the names of keys and
// tags, which are plaintext unless they are hidden. No error or log line holds a key name or a value. The report holds names
// only if [Config.Samples] asks for them.
package audit
