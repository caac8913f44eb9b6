package audit

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/tink-crypto/tink-go/v2/keyset"

	"github.com/sealcache/sealcache/aead"
)

// Answer is Yes, No or Unknown.
type Answer string

// The answers.
const (
	Yes     Answer = "yes"
	No      Answer = "no"
	Unknown Answer = "unknown"
)

// notes collects reasons.
type notes []string

func (n *notes) count(of int64, text string) {
	if of > 0 {
		*n = append(*n, fmt.Sprintf("%d %s", of, text))
	}
}

// answer returns Yes if there are findings, else Unknown if there are doubts, else No.
func answer(found, doubts []string) (Answer, []string) {
	switch {
	case len(found) > 0:
		return Yes, found
	case len(doubts) > 0:
		return Unknown, doubts
	default:
		return No, nil
	}
}

// AnythingPlaintext answers whether anything in the scope is plaintext, and gives the reasons.
func (r *Report) AnythingPlaintext() (Answer, []string) {
	var found notes
	found.count(r.Total.Plaintext.Values, "plaintext values")
	found.count(r.Jobs.Payloads.Plaintext.Values, "plaintext payloads of jobs")
	found.count(r.Jobs.Results.Plaintext.Values, "plaintext results of jobs")
	found.count(r.Jobs.Errors.Plaintext.Values, "plaintext error texts of jobs")
	found.count(r.Jobs.Running.Plaintext.Values, "plaintext payloads of running jobs")
	found.count(r.Jobs.Scheduled.Plaintext.Values, "plaintext payloads of schedules")
	found.count(r.Jobs.Headers.Plaintext.Values, "plaintext headers of jobs")
	return answer(found, r.plaintextDoubts())
}

// AnythingSealed answers whether anything in the scope is sealed, and gives the reasons. On the way back to plaintext, No
// means that the keys may be removed. Fernet tokens and key checks are not sealed in this sense.
func (r *Report) AnythingSealed() (Answer, []string) {
	var found notes
	found.count(r.Total.Sealed.Values, "sealed values")
	jobs := int64(0)
	for _, t := range r.Jobs.tallies() {
		jobs += t.Sealed.Values
	}
	found.count(jobs, "sealed payloads, results or error texts of jobs")
	found.count(r.unknownFormat(), "values of unknown format, which a newer release of sealcache may have sealed")
	doubts := slices.Concat(r.scanDoubts(), r.emptyDoubts(), r.databaseDoubts(), r.unparsedDoubts(), r.typeDoubts())
	return answer(found, doubts)
}

// plaintextDoubts are reasons why something may be plaintext although none was found.
func (r *Report) plaintextDoubts() []string {
	doubts := notes(slices.Concat(r.scanDoubts(), r.emptyDoubts(), r.databaseDoubts()))
	unreadable := r.Total.Unreadable.Values
	for _, k := range r.Keys {
		if k.HasID {
			doubts.count(k.NotGiven, fmt.Sprintf("values are sealed under %s, which is not among the given keys (give its keyset, too)", k.Key))
			unreadable -= k.NotGiven
		}
	}
	doubts.count(unreadable, "values do not open: altered, moved, or sealed with other keys (check Config.Keys and Config.Namespaces)")
	doubts.count(r.unknownFormat(), "values are of unknown format (a newer release of sealcache may read them)")
	doubts.count(r.Total.Fernet.Values, "values look like Fernet tokens of django-secure-redis, which an audit cannot open (let them expire, or delete them)")
	doubts.count(r.KeyChecks.Unreadable, "key checks (entries named sealcache.key-check) do not open (check Config.Keys)")
	return slices.Concat(doubts, r.unparsedDoubts(), r.typeDoubts())
}

// scanDoubts are reasons why the scan may have missed something.
func (r *Report) scanDoubts() []string {
	var doubts []string
	if !r.Complete {
		doubts = append(doubts, "the scan did not complete (run the audit again)")
	}
	if r.Unwatched {
		doubts = append(doubts, "INFO is refused or shows too little, so a restart or SWAPDB is not noticed (\"ACL SETUSER NAME +info\" allows it)")
	}
	if r.Moved {
		doubts = append(doubts, "SWAPDB, MOVE or CONFIG RESETSTAT may have been called during the scan, which may have missed entries (audit again)")
	}
	return doubts
}

// emptyDoubts are about a scan that found nothing: server or names may be wrong.
func (r *Report) emptyDoubts() []string {
	switch {
	case !r.Complete || r.looked() > 0:
		return nil
	case r.Seen > 0:
		return []string{"all names were excluded (check Config.Exclude and Config.OtherApplications)"}
	case r.Prefix != "":
		return []string{"no name was found (check Config.Namespace, Config.Prefix and the server)"}
	default:
		return []string{"no name was found (check server and database)"}
	}
}

// databaseDoubts are about databases that should have been examined and were not.
func (r *Report) databaseDoubts() []string {
	if r.Prefix != "" || r.OneDatabase {
		return nil
	}
	return r.leftDatabases()
}

// leftDatabases are about databases that were not examined. The Config may have left them out.
func (r *Report) leftDatabases() []string {
	remedy := "allow SELECT with \"ACL SETUSER NAME +select\""
	switch {
	case len(r.OtherDatabases) == 0:
		return nil
	case r.OneDatabase:
		remedy = "run the audit without Config.OneDatabase"
	case r.Prefix != "":
		remedy = "run the audit without Config.Namespace and Config.Prefix"
	}
	return []string{fmt.Sprintf("databases %v of the server were not examined (%s)", r.OtherDatabases, remedy)}
}

// unparsedDoubts are about entries that were not understood or not read.
func (r *Report) unparsedDoubts() []string {
	var doubts notes
	doubts.count(r.NotRead, "entries of jobs or migration records were not read: over 64 MiB, or Redis refused MEMORY USAGE (set Config.Samples)")
	doubts.count(r.Jobs.Unparsed, "entries of asynq's queues are in a form that asynq 0.26 does not write (set Config.Samples to see their names)")
	return doubts
}

// typeDoubts name entries of types that were not examined and are not ignored.
func (r *Report) typeDoubts() []string {
	var doubts notes
	for _, t := range sortedKeys(r.OtherTypes) {
		switch {
		case t == hyperLogLog:
			doubts.count(r.OtherTypes[t], "strings look like HyperLogLogs, so they were not examined (exclude them with Config.OtherApplications)")
		case !slices.Contains(r.IgnoredTypes, t):
			doubts.count(r.OtherTypes[t], fmt.Sprintf("entries of type %s were not examined (if they hold no cached data, add %s to Config.IgnoreTypes)", t, t))
		}
	}
	return doubts
}

// Conditions holds the facts that MayDestroy needs and that Redis does not show.
type Conditions struct {
	// Keyset is the application's present keyset, from aead.Keyring.Keys. Nil is unknown.
	Keyset []aead.KeyInfo
	// NotPrimarySince is when the keyset with another primary key was in place everywhere. If the keyset itself says that the key
	// was primary until later (aead.KeyTimes.Demoted), that time counts.
	NotPrimarySince time.Time
	// Reload is the longest time until a process uses a new primary key: the longest reload interval, or with a
	// key-encryption key in a key service, the longest age of a data key. 0 is 24 hours, aead's default age of data keys.
	Reload time.Duration
}

// unreadableCause is for values that name a key and do not open under the given keys.
const unreadableCause = "Config.Keys or Config.Namespaces is incomplete, or the values are planted (delete these; Config.Samples shows names)"

// MayDestroy answers whether the key with this id may be destroyed without making anything in Redis unreadable. It gives
// the reasons unless the answer is Yes.
//
// Yes requires all of this. The key is in the given keyset and writes its id into what it seals. The scan was
// complete and saw entries. It left out no databases, and only IgnoreTypes and the names of OtherApplications. Every sealed
// value names a key of that keyset, and none names this key. When the scan began, the key had not been primary for
// longer than Conditions.Reload. The answer says nothing about other servers, backups, and keysets that are sealed
// under the key.
func (r *Report) MayDestroy(id uint32, c Conditions) (Answer, []string) {
	var no, unreadable notes
	i := slices.IndexFunc(c.Keyset, func(k aead.KeyInfo) bool { return k.ID == id })
	for _, k := range r.Keys {
		if !k.HasID || k.ID != id {
			continue
		}
		no.count(k.Values-k.Unreadable.Values, fmt.Sprintf("values are sealed under %s (reseal them; delete any that do not open)", k.Key))
		switch {
		case i >= 0 && c.Keyset[i].Status == keyset.Disabled: // that they do not open says nothing
			no.count(k.Unreadable.Values, fmt.Sprintf("values carry the id of %s, which is disabled, so they were not opened (enable the key and reseal them)", k.Key))
		case i >= 0 && c.Keyset[i].Status == keyset.Destroyed:
			unreadable.count(k.Unreadable.Values, fmt.Sprintf("values carry the id of %s, which was destroyed, so nothing opens them (delete these values)", k.Key))
		default:
			unreadable.count(k.Unreadable.Values, fmt.Sprintf("values carry the id of %s but do not open: %s", k.Key, unreadableCause))
		}
	}
	if i >= 0 && c.Keyset[i].Primary {
		no = append(no, "the key is the primary key, so it seals new values (make another key primary)")
	}
	if len(no) > 0 {
		return No, no
	}
	doubts := slices.Concat(c.doubts(id, r.Started), r.scanDoubts(), r.scopeDoubts(), unreadable, r.keyDoubts(c.Keyset))
	if len(doubts) > 0 {
		return Unknown, doubts
	}
	return Yes, nil
}

// scopeDoubts are doubts about entries that were left out, which may be sealed under any key.
func (r *Report) scopeDoubts() []string {
	var doubts []string
	if r.Prefix != "" {
		doubts = append(doubts, "only some names were examined, and no jobs (run the audit without Config.Namespace and Config.Prefix)")
	} else {
		doubts = r.emptyDoubts()
	}
	if len(r.Exclude) > 0 {
		doubts = append(doubts, "excluded names may hold values under any key (run the audit without Config.Exclude)")
	}
	doubts = append(doubts, r.leftDatabases()...)
	if r.Replica {
		doubts = append(doubts, "a replica may lack entries of its master (audit the master)")
	}
	return slices.Concat(doubts, r.typeDoubts())
}

// doubts are further reasons against a certain answer.
func (c *Conditions) doubts(id uint32, started time.Time) []string {
	var doubts []string
	i := slices.IndexFunc(c.Keyset, func(k aead.KeyInfo) bool { return k.ID == id })
	switch {
	case c.Keyset == nil:
		doubts = append(doubts, "the keyset was not given, so the key may be the primary key (set Conditions.Keyset)")
	case i < 0:
		doubts = append(doubts, fmt.Sprintf("the given keyset has no key %d (its keys are %s)", id, idsOf(c.Keyset)))
	case c.Keyset[i].Prefix != "TINK":
		doubts = append(doubts, fmt.Sprintf("the key has the output prefix %s instead of TINK, so its values do not show its id", c.Keyset[i].Prefix))
	}
	if c.Keyset != nil && !slices.ContainsFunc(c.Keyset, func(k aead.KeyInfo) bool { return k.Primary && k.Status == keyset.Enabled }) {
		doubts = append(doubts, "the given keyset has no primary key")
	}
	reload := c.Reload
	if reload <= 0 {
		reload = 24 * time.Hour
	}
	switch {
	case c.NotPrimarySince.IsZero():
		doubts = append(doubts, "the time when the key stopped being primary is missing (set Conditions.NotPrimarySince)")
	case i >= 0 && started.Before(c.Keyset[i].Times.Demoted.Add(reload)) && c.Keyset[i].Times.Demoted.After(c.NotPrimarySince):
		doubts = append(doubts, fmt.Sprintf("the keyset records that the key was primary until %s; processes may have used it %v longer (audit again later)",
			c.Keyset[i].Times.Demoted.UTC().Format(time.RFC3339), reload))
	case started.Before(c.NotPrimarySince.Add(reload)):
		doubts = append(doubts, fmt.Sprintf("processes may have used the key for %v after it stopped being primary, but the scan began earlier (audit again later)", reload))
	}
	return doubts
}

func idsOf(keys []aead.KeyInfo) string {
	ids := make([]string, len(keys))
	for i, k := range keys {
		ids[i] = fmt.Sprint(k.ID)
	}
	return strings.Join(ids, ", ")
}

// keyDoubts are about values that may be sealed under any key.
func (r *Report) keyDoubts(keys []aead.KeyInfo) []string {
	var held, uncounted, unnamed, outside int64
	for _, k := range r.Keys {
		switch {
		case !k.HasID && k.Key == heldLabel:
			held += k.Values
		case !k.HasID && k.Key == moreKeysLabel:
			uncounted += k.Values
		case !k.HasID:
			unnamed += k.Values
		case keys != nil && !slices.ContainsFunc(keys, func(i aead.KeyInfo) bool { return i.ID == k.ID && i.Prefix == "TINK" }):
			// These bytes may not be an id: a key without a prefix, or a key service, may write any first bytes.
			outside += k.Values
		}
	}
	var doubts notes
	doubts.count(held, "asynq tasks contain members of a task group that did not open, perhaps sealed under this key (run or delete these tasks)")
	doubts.count(uncounted, fmt.Sprintf("values contain key ids beyond the %d in the report, perhaps this id (find them with Config.Keys and Config.Samples)", maxKeys))
	doubts.count(unnamed, "values do not show the key that sealed them, so this key may have sealed them")
	doubts.count(outside, "values seem to contain ids of keys that the given keyset lacks (name other applications in Config.OtherApplications)")
	doubts.count(r.unknownFormat(), "values are of unknown format (a newer release of sealcache may read them)")
	return slices.Concat(doubts, r.unparsedDoubts())
}
