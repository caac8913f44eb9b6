package audit

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sealcache/sealcache/internal/names"
)

// Amount is a number of values and their size.
type Amount struct {
	Values int64 `json:"values"`
	Bytes  int64 `json:"bytes"`
}

func (a *Amount) add(n, bytes int64) { a.Values += n; a.Bytes += bytes }

// Tally counts values by how they are protected.
type Tally struct {
	// Plaintext counts values that are not sealed.
	Plaintext Amount `json:"plaintext"`
	// Sealed counts values with the form of sealed values. Only keys show whether they open.
	Sealed Amount `json:"sealed"`
	// Unreadable is the part of Sealed that does not open under the given keys.
	Unreadable Amount `json:"unreadable"`
	// UnknownFormat counts values that start like sealed values and cannot be read as such. They have a format or
	// kind that this release does not know or expect there, or text in place of a ciphertext.
	UnknownFormat Amount `json:"unknown_format"`
	// Fernet counts Fernet tokens, as django-secure-redis wrote them.
	Fernet Amount `json:"fernet"`
}

func (t *Tally) add(o *Tally) {
	t.Plaintext.add(o.Plaintext.Values, o.Plaintext.Bytes)
	t.Sealed.add(o.Sealed.Values, o.Sealed.Bytes)
	t.Unreadable.add(o.Unreadable.Values, o.Unreadable.Bytes)
	t.UnknownFormat.add(o.UnknownFormat.Values, o.UnknownFormat.Bytes)
	t.Fernet.add(o.Fernet.Values, o.Fernet.Bytes)
}

func (t *Tally) values() int64 {
	return t.Plaintext.Values + t.Sealed.Values + t.UnknownFormat.Values + t.Fernet.Values
}

// KeyUse counts the values that are sealed under one key, as far as they name it.
type KeyUse struct {
	// Key is the name. A key of a keyset that sealed values is "key 17", and one that wrapped their data keys is
	// "key 17 of a KEK". A version of a key in Vault is "KEK vault:v3", and a passphrase is "KEK passphrase ...". If the
	// wrapping of a data key names no key, the text is "data key ...". A key without a prefix is "unnamed".
	Key string `json:"key_name"`
	// ID is the id of a key of a Tink keyset, if HasID.
	ID    uint32 `json:"key_id,omitempty"`
	HasID bool   `json:"has_key_id"`
	Amount
	// Unreadable is the part that does not open under the given keys. It may be planted.
	Unreadable Amount `json:"unreadable"`
	// NotGiven counts the unreadable values of caches of which the key is not among the given ones.
	NotGiven int64 `json:"not_given,omitempty"`
}

func (u *KeyUse) add(o *KeyUse) {
	u.NotGiven += o.NotGiven
	u.Amount.add(o.Values, o.Bytes)
	u.Unreadable.add(o.Unreadable.Values, o.Unreadable.Bytes)
}

// JobTally counts the data that asynq keeps: payloads, results, error texts and headers. Error texts that asynq and
// asynqjobs write themselves do not count.
type JobTally struct {
	Tasks Amount `json:"tasks"` // hashes of tasks
	// Running and Scheduled are copies of payloads in asynq:workers and asynq:schedulers, which asynq soon removes, and the
	// schedules of asynqjobs.
	Running   Tally `json:"running"`
	Scheduled Tally `json:"scheduled"`
	Payloads  Tally `json:"payloads"`
	Results   Tally `json:"results"`
	Errors    Tally `json:"errors"`
	// Headers counts the headers that asynqjobs has not written, and their names. They are plaintext.
	Headers Tally `json:"headers"`
	// Unparsed counts entries of job queues in a form that asynq 0.26 and asynqjobs do not write.
	Unparsed int64 `json:"unparsed"`
	// Bookkeeping counts entries of ids, names, counts and times.
	Bookkeeping int64 `json:"bookkeeping"`
}

func (j *JobTally) add(o *JobTally) {
	j.Tasks.add(o.Tasks.Values, o.Tasks.Bytes)
	for i, t := range j.tallies() {
		t.add(o.tallies()[i])
	}
	j.Unparsed += o.Unparsed
	j.Bookkeeping += o.Bookkeeping
}

func (j *JobTally) tallies() []*Tally {
	return []*Tally{&j.Payloads, &j.Results, &j.Errors, &j.Running, &j.Scheduled, &j.Headers}
}

// KeyChecks are the entries by which processes compare their keys, one in each namespace. They hold no data.
type KeyChecks struct {
	Values int64 `json:"values"`
	// Unreadable counts those that the given keys do not open.
	Unreadable int64 `json:"unreadable"`
}

// Group counts the entries whose names share a prefix.
type Group struct {
	Prefix string `json:"prefix"`
	Tally
}

// Report is what Run found. The only names in it are Samples, the prefixes of Groups, and the names that the caller
// gave. In JSON, a name or prefix that is not valid UTF-8 or starts with a quotation mark has the form of strconv.Quote,
// which strconv.Unquote reads. Others are unchanged.
type Report struct {
	// Schema is the number of the JSON form. It grows when a member goes or changes its meaning.
	Schema int `json:"schema"`
	// Complete reports whether every master was scanned to its end, while no slots of a Cluster moved.
	Complete bool `json:"complete"`
	// Unwatched reports whether the server refused INFO, or did not show its run id, its databases or its counters of commands
	// there. So a restart, a failover or SWAPDB during the scan went unnoticed. Then no answer is reassuring.
	Unwatched bool `json:"unwatched"`
	// Moved reports whether any application may have called SWAPDB, MOVE or CONFIG RESETSTAT during the scan. It is also true
	// if the server showed its counters of these calls only before or only after the scan. SWAPDB and MOVE may bring entries
	// into a database that was scanned, and CONFIG RESETSTAT resets the counters. Then no answer is reassuring.
	Moved   bool          `json:"moved"`
	Started time.Time     `json:"started"`
	Elapsed time.Duration `json:"-"` // elapsed_seconds in JSON
	// Servers are the addresses of the client.
	Servers []string `json:"servers"`
	// Namespace, Exclude, OtherApplications, Namespaces, OneDatabase, Replica and IgnoredTypes are as in the Config.
	// Prefix is the start of the stored names.
	Namespace         string   `json:"namespace"`
	Prefix            string   `json:"prefix"`
	Exclude           []string `json:"exclude,omitempty"`
	OtherApplications []string `json:"other_applications,omitempty"`
	Namespaces        []string `json:"namespaces,omitempty"`
	OneDatabase       bool     `json:"one_database"`
	Replica           bool     `json:"replica"`
	IgnoredTypes      []string `json:"ignored_types,omitempty"`
	// UnmatchedExcludes and UnmatchedApplications are the given prefixes that matched no name.
	UnmatchedExcludes     []string `json:"unmatched_excludes,omitempty"`
	UnmatchedApplications []string `json:"unmatched_applications,omitempty"`
	// Masters is how many were scanned. Restarts is how often a scan began again.
	Masters  int `json:"masters"`
	Restarts int `json:"restarts"`
	// Databases lists the databases that were examined. OtherDatabases lists those of the same server that hold entries and
	// were not examined.
	Databases      []int `json:"databases"`
	OtherDatabases []int `json:"other_databases,omitempty"`
	// Opened reports whether keys were given, so that sealed values of caches were opened.
	Opened bool `json:"opened"`
	// CountsAsUse reports whether the audit changed the idle times of entries, because the server does not offer
	// CLIENT NO-TOUCH (Redis 7.2). This delays their eviction by LRU or LFU.
	CountsAsUse bool `json:"counts_as_use"`

	Seen       int64 `json:"seen"` // names
	Excluded   int64 `json:"excluded"`
	OtherNames int64 `json:"other_names"` // that OtherApplications matched

	Total     Tally     `json:"total"` // of values of caches
	Groups    []Group   `json:"groups"`
	Keys      []KeyUse  `json:"keys"`
	Jobs      JobTally  `json:"jobs"`
	KeyChecks KeyChecks `json:"key_checks"`
	// HiddenNames are the entries under hidden names. GivenPRFKeys are the ids of the PRF keys in the Config, the primary one
	// first.
	HiddenNames  HiddenNames `json:"hidden_names"`
	GivenPRFKeys []uint32    `json:"given_prf_key_ids,omitempty"`
	// RunRecords counts the hashes in which package migrate records its runs.
	RunRecords int64 `json:"run_records"`
	// NotRead counts entries of job queues and hashes of run records that were not read, because they are larger than 64 MiB
	// or because Redis refused MEMORY USAGE. Of a queue, usual ids do not count. The entries may hold anything.
	NotRead int64 `json:"not_read"`
	// TagSets counts gocache's sets of names. Their members are plaintext.
	TagSets int64 `json:"tag_sets"`
	// OtherTypes counts other entries by their type. They were not examined. Strings that PFADD made are "HyperLogLog".
	OtherTypes map[string]int64 `json:"other_types,omitempty"`
	// Samples are names, by finding.
	Samples map[string][]string `json:"samples,omitempty"`
	// Doubts are reasons why AnythingPlaintext may not be No.
	Doubts []string `json:"doubts,omitempty"`
}

const reportSchema = 1

// unnamedLabel is the KeyUse.Key of values that name no key.
const unnamedLabel = "unnamed"

// MarshalJSON adds Elapsed in seconds, and quotes names that need it.
func (r Report) MarshalJSON() ([]byte, error) {
	r.Prefix, r.Exclude, r.OtherApplications = names.JSON(r.Prefix), names.AllJSON(r.Exclude), names.AllJSON(r.OtherApplications)
	r.UnmatchedExcludes, r.UnmatchedApplications = names.AllJSON(r.UnmatchedExcludes), names.AllJSON(r.UnmatchedApplications)
	r.Groups = slices.Clone(r.Groups)
	for i := range r.Groups {
		r.Groups[i].Prefix = names.JSON(r.Groups[i].Prefix)
	}
	r.Samples = maps.Clone(r.Samples)
	for finding, sample := range r.Samples {
		r.Samples[finding] = names.AllJSON(sample)
	}
	type fields Report
	return json.Marshal(struct {
		fields
		Elapsed float64 `json:"elapsed_seconds"`
	}{fields(r), r.Elapsed.Seconds()})
}

// Unmatched reports whether a prefix of Exclude or OtherApplications matched no name.
func (r *Report) Unmatched() bool {
	return len(r.UnmatchedExcludes)+len(r.UnmatchedApplications) > 0
}

// unknownFormat counts values that start like sealed values but have an unknown format.
func (r *Report) unknownFormat() int64 {
	n := r.Total.UnknownFormat.Values
	for _, t := range r.Jobs.tallies() {
		n += t.UnknownFormat.Values
	}
	return n
}

// looked counts the names that were examined.
func (r *Report) looked() int64 { return r.Seen - r.Excluded - r.OtherNames }

// Scope describes in one line which data the answers cover.
func (r *Report) Scope() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s on ", databases(r.Databases))
	switch {
	case r.Replica:
		b.WriteString(count(r.Masters, "server, which may be a replica", "servers, which may be replicas"))
	default:
		b.WriteString(count(r.Masters, "master", "masters"))
	}
	if r.Prefix == "" {
		b.WriteString(", all names")
	} else {
		fmt.Fprintf(&b, ", names that start with %q", r.Prefix)
	}
	if len(r.Exclude) > 0 {
		fmt.Fprintf(&b, "; NOT names that start with %s, which were excluded (%d)", quoted(r.Exclude), r.Excluded)
	}
	if len(r.OtherApplications) > 0 {
		fmt.Fprintf(&b, "; NOT names that start with %s, which belong to other applications (%d)", quoted(r.OtherApplications), r.OtherNames)
	}
	if len(r.OtherDatabases) > 0 {
		fmt.Fprintf(&b, "; NOT %s of the same server", databases(r.OtherDatabases))
	}
	for _, t := range sortedKeys(r.OtherTypes) {
		if slices.Contains(r.IgnoredTypes, t) {
			fmt.Fprintf(&b, "; NOT entries of type %s, which were ignored (%d)", t, r.OtherTypes[t])
		}
	}
	b.WriteString("; NOT backups, dumps, disconnected replicas and other servers; NOT the names and tags themselves")
	return b.String()
}

// count returns a number with its noun.
func count[N int | int64](n N, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// databases names databases, as "database 0" or "databases 0, 7".
func databases(numbers []int) string {
	noun := "databases "
	if len(numbers) == 1 {
		noun = "database "
	}
	return noun + strings.Trim(strings.ReplaceAll(fmt.Sprint(numbers), " ", ", "), "[]")
}

func quoted(prefixes []string) string {
	all := make([]string, len(prefixes))
	for i, p := range prefixes {
		all[i] = strconv.Quote(p)
	}
	return strings.Join(all, " or ")
}

// WriteText writes the report for people.
func (r *Report) WriteText(w io.Writer) error {
	var b strings.Builder
	state := "complete"
	if !r.Complete {
		state = "NOT COMPLETE"
	}
	fmt.Fprintf(&b, "audit: %s, %s in %v", state, count(r.Seen, "name", "names"), r.Elapsed.Round(time.Millisecond))
	if s := r.Elapsed.Seconds(); s > 0 {
		fmt.Fprintf(&b, ", %.0f/s", float64(r.Seen)/s)
	}
	fmt.Fprintf(&b, "\nscope: %s\n", r.Scope())
	if r.Restarts > 0 {
		fmt.Fprintf(&b, "a scan restarted %s, because a server restarted or failed over, or slots moved\n", count(r.Restarts, "time", "times"))
	}
	for _, p := range append(append([]string{}, r.UnmatchedExcludes...), r.UnmatchedApplications...) {
		fmt.Fprintf(&b, "NOTHING MATCHED the prefix %q: check this prefix\n", p)
	}
	if !r.Opened {
		b.WriteString("no value was opened in this audit: a value counts as sealed by its format alone\n")
	}
	r.writeTallies(&b)
	for _, k := range r.Keys {
		name := k.Key
		if name == unnamedLabel {
			name = "a key without an id"
		}
		fmt.Fprintf(&b, "under %-30s %12s (%d B)", name, count(k.Values, "value", "values"), k.Bytes)
		if k.Unreadable.Values > 0 {
			fmt.Fprintf(&b, ", %d unreadable", k.Unreadable.Values)
		}
		b.WriteByte('\n')
	}
	if r.KeyChecks.Values > 0 {
		fmt.Fprintf(&b, "%s (named sealcache.key-check), unreadable: %d\n", count(r.KeyChecks.Values, "key check", "key checks"), r.KeyChecks.Unreadable)
	}
	r.HiddenNames.writeText(&b)
	if r.TagSets > 0 {
		fmt.Fprintf(&b, "%s of gocache with names of entries\n", count(r.TagSets, "tag set", "tag sets"))
	}
	if r.NotRead > 0 {
		fmt.Fprintf(&b, "%s of jobs or migration records NOT READ: too large, or Redis refused MEMORY USAGE\n", count(r.NotRead, "entry", "entries"))
	}
	for _, t := range sortedKeys(r.OtherTypes) {
		fmt.Fprintf(&b, "%s of type %s, not examined\n", count(r.OtherTypes[t], "entry", "entries"), t)
	}
	if r.CountsAsUse {
		b.WriteString("reading changed the idle times of the entries, because CLIENT NO-TOUCH (Redis 7.2) was not available\n")
	}
	for _, what := range sortedKeys(r.Samples) {
		fmt.Fprintf(&b, "examples (%s):\n", what)
		for _, name := range r.Samples[what] {
			fmt.Fprintf(&b, "  %q\n", name)
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func (r *Report) writeTallies(b *strings.Builder) {
	row := func(name string, t *Tally) {
		fmt.Fprintf(b, "%-24s %12d plaintext (%d B) %12d sealed (%d B)", name, t.Plaintext.Values, t.Plaintext.Bytes, t.Sealed.Values, t.Sealed.Bytes)
		for _, x := range []struct {
			a    Amount
			text string
		}{{t.Unreadable, "unreadable"}, {t.UnknownFormat, "of unknown format"}, {t.Fernet, "Fernet"}} {
			if x.a.Values > 0 {
				fmt.Fprintf(b, ", %d %s", x.a.Values, x.text)
			}
		}
		b.WriteByte('\n')
	}
	row("values", &r.Total)
	for i := range r.Groups {
		row("  "+r.Groups[i].Prefix, &r.Groups[i].Tally)
	}
	if r.Jobs.Tasks.Values+r.Jobs.Bookkeeping+r.Jobs.Unparsed > 0 {
		fmt.Fprintf(b, "jobs: %s, %s, %s in an unknown format\n", count(r.Jobs.Tasks.Values, "task", "tasks"),
			count(r.Jobs.Bookkeeping, "bookkeeping entry", "bookkeeping entries"), count(r.Jobs.Unparsed, "entry", "entries"))
		for i, name := range []string{"  payloads", "  results", "  error texts", "  of running jobs", "  of schedules", "  headers"} {
			row(name, r.Jobs.tallies()[i])
		}
	}
}
