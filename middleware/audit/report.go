package audit

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tink-crypto/tink-go/v2/keyset"

	"github.com/sealcache/sealcache/aead"
)

// Amount is how many values there are, and how many bytes they have together.
type Amount struct {
	Values int64 `json:"values"`
	Bytes  int64 `json:"bytes"`
}

func (a *Amount) add(n, bytes int64) { a.Values += n; a.Bytes += bytes }

// Tally sorts values by what protects them.
type Tally struct {
	// Plaintext is not sealed.
	Plaintext Amount `json:"plaintext"`
	// Sealed have the form of sealed values. That they open is known only if keys were given.
	Sealed Amount `json:"sealed"`
	// Unreadable, a part of Sealed, did not open under the keys that were given.
	Unreadable Amount `json:"unreadable"`
	// UnknownFormat begin as sealed values and are none that this release knows, or none that belong there.
	UnknownFormat Amount `json:"unknown_format"`
	// Fernet are tokens of Fernet, as django-secure-redis wrote them.
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

// KeyUse says how much is sealed under one key, as far as sealed values name it.
type KeyUse struct {
	// Key is the name: "key 17" for a key of a keyset that sealed values, "KEK key 17" for one that wrapped their data
	// keys, "KEK vault:v3" for a version of a key in Vault, "KEK passphrase 0123456789abcdef" for a
	// passphrase and its salt; "data key 0123456789abcdef" for one data key whose wrapping
	// names no key, "unnamed" for a key without a prefix.
	Key string `json:"key"`
	// ID is the id of a key of a Tink keyset, if Named.
	ID    uint32 `json:"id,omitempty"`
	Named bool   `json:"named"`
	Amount
}

// JobTally is what asynq keeps. Amounts are of payloads, results, error texts and headers; what asynq and asynqjobs
// themselves write as error text is none of them.
type JobTally struct {
	Tasks Amount `json:"tasks"` // hashes of tasks, and the bytes in them
	// Running and Scheduled are copies of payloads, in asynq:workers and asynq:schedulers, which asynq soon removes.
	Running   Tally `json:"running"`
	Scheduled Tally `json:"scheduled"`
	Payloads  Tally `json:"payloads"`
	Results   Tally `json:"results"`
	Errors    Tally `json:"errors"`
	// Headers are those that asynqjobs has not made, each with its name. They are in clear.
	Headers Tally `json:"headers"`
	// Unparsed were not what asynq writes.
	Unparsed int64 `json:"unparsed"`
	// Bookkeeping are other entries with names and types that asynq and asynqjobs use, of ids, counts and times.
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

// Group is what lies under names that begin alike.
type Group struct {
	Prefix string `json:"prefix"`
	Tally
}

// Report is what Audit found. It names no key, but for Samples and what Groups begin with.
type Report struct {
	// Complete says that every master was scanned to its end, with no slots of a Cluster on the move meanwhile, and each of
	// them one master's.
	Complete bool `json:"complete"`
	// Unwatched says that the user of Redis may not call INFO: whether a server restarted or failed over during the scan, and
	// with it lost the place, is not known. No answer is certain then.
	Unwatched bool          `json:"unwatched,omitempty"`
	Started   time.Time     `json:"started"`
	Elapsed   time.Duration `json:"elapsed_ns"`
	// Prefix is what the names that were looked at begin with.
	Prefix string `json:"prefix"`
	// Exclude is Config.Exclude.
	Exclude []string `json:"exclude,omitempty"`
	// Foreign is Config.UnknownFormat. That these names are others' is the caller's word.
	OtherApplications []string `json:"other_applications,omitempty"`
	// Namespaces is Config.Namespaces.
	Namespaces []string `json:"namespaces,omitempty"`
	Masters    int      `json:"masters"`
	// Restarts is how often a scan began again; what was counted before then does not count.
	Restarts int `json:"restarts"`
	// Replica says that the server may be a replica: Config.Replica.
	Replica bool `json:"replica,omitempty"`
	// Databases were looked at. OtherDatabases of the same server hold something and were not; with OneDatabase or a Prefix
	// that is meant.
	Databases      []int `json:"databases"`
	OtherDatabases []int `json:"other_databases,omitempty"`
	OneDatabase    bool  `json:"one_database,omitempty"`
	// Opened tells whether sealed values of caches were opened, for which keys must be given.
	Opened bool `json:"opened"`

	Seen     int64 `json:"seen"`     // names, with those that were left out
	Excluded int64 `json:"excluded"` // of them, by Exclude
	// OtherNames are those of them that Foreign left out.
	OtherNames int64 `json:"other_names"`

	Total  Tally    `json:"total"` // of values of caches
	Groups []Group  `json:"groups"`
	Keys   []KeyUse `json:"keys"`
	Jobs   JobTally `json:"jobs"`
	// TagSets are gocache's sets of names; their members are in clear.
	TagSets int64 `json:"tag_sets"`
	// OtherTypes, by type, are entries that are neither values of a cache nor known; they were not looked into. Strings that
	// PFADD made are "HyperLogLog", as in Counts.
	OtherTypes map[string]int64 `json:"other_types,omitempty"`
	// IgnoredOtherTypes is Config.IgnoreOtherTypes.
	IgnoredOtherTypes bool `json:"ignored_other_types"`
	// Samples are names, by what is wrong with them, if they were asked for.
	Samples map[string][]string `json:"samples,omitempty"`
	// Doubts are why AnythingPlaintext may not be answered with no.
	Doubts []string `json:"doubts,omitempty"`
}

// Answer is yes, no, or that the audit cannot tell.
type Answer string

const (
	Yes     Answer = "yes"
	No      Answer = "no"
	Unknown Answer = "unknown"
)

// AnythingPlaintext answers whether anything in the scope is in clear, and gives the reasons.
func (r *Report) AnythingPlaintext() (Answer, []string) {
	var found []string
	note := func(n int64, text string) {
		if n > 0 {
			found = append(found, fmt.Sprintf("%d %s", n, text))
		}
	}
	note(r.Total.Plaintext.Values, "values in clear")
	note(r.Jobs.Payloads.Plaintext.Values, "payloads of jobs in clear")
	note(r.Jobs.Results.Plaintext.Values, "results of jobs in clear")
	note(r.Jobs.Errors.Plaintext.Values, "error texts of jobs in clear")
	note(r.Jobs.Running.Plaintext.Values, "payloads of running jobs in clear")
	note(r.Jobs.Scheduled.Plaintext.Values, "payloads of schedules in clear")
	note(r.Jobs.Headers.Plaintext.Values, "headers of jobs in clear")
	if len(found) > 0 {
		return Yes, found
	}
	if doubts := r.plaintextDoubts(); len(doubts) > 0 {
		return Unknown, doubts
	}
	return No, nil
}

// plaintextDoubts are why something may be in clear although none was found.
func (r *Report) plaintextDoubts() []string {
	doubts := append(r.scanDoubts(), r.emptyDoubts()...)
	note := func(n int64, text string) {
		if n > 0 {
			doubts = append(doubts, fmt.Sprintf("%d %s", n, text))
		}
	}
	if len(r.OtherDatabases) > 0 && r.Prefix == "" && !r.OneDatabase {
		doubts = append(doubts, fmt.Sprintf("databases %v of the same server could not be looked at: allow the user of Redis to select them (ACL SETUSER name +select), or audit them by themselves", r.OtherDatabases))
	}
	note(r.Total.Unreadable.Values, "values did not open: a namespace that was not named, or foreign keys; they may be anything that begins as a sealed value does")
	note(r.unknownFormat(), "values of foreign format: a newer release may read them")
	note(r.Total.Fernet.Values, "Fernet tokens, which this tool cannot vouch for")
	note(r.Jobs.Unparsed, "entries of a job queue that are not as asynq writes them: have their names shown, and look at them")
	if !r.IgnoredOtherTypes {
		doubts = append(doubts, r.typeDoubts()...)
	}
	return doubts
}

// scanDoubts are why the scan may have missed something.
func (r *Report) scanDoubts() []string {
	var doubts []string
	if !r.Complete {
		doubts = append(doubts, "the scan was not complete: run it again")
	}
	if r.Unwatched {
		doubts = append(doubts, "the user of Redis may not call INFO: a restart or failover during the scan would not have been noticed; allow it (ACL SETUSER name +info) and run it again")
	}
	return doubts
}

// looked is how many names were not left out.
func (r *Report) looked() int64 { return r.Seen - r.Excluded - r.OtherNames }

// emptyDoubts are of a scan that met nothing: the right server, or the right names, may be others.
func (r *Report) emptyDoubts() []string {
	switch {
	case !r.Complete || r.looked() > 0:
		return nil
	case r.Seen > 0:
		return []string{"all names were left out: see whether the prefixes to leave out are right"}
	case r.Prefix != "" || len(r.Namespaces) > 0:
		return []string{"no name begins with the prefix, or there is nothing at all where namespaces were given: see whether they are spelt as in Redis, and whether this is the right server"}
	default:
		return []string{"there is nothing at all: see whether this is the right server and database"}
	}
}

// Conditions are what an audit cannot see in Redis and must be told before it says that a key may be destroyed.
type Conditions struct {
	// Keyset is the application's present one, as aead.Keyring.Keys lists it. Nil is unknown.
	Keyset []aead.KeyInfo
	// NotPrimarySince is when the key stopped being primary: when the keyset with another primary key was in place
	// everywhere.
	NotPrimarySince time.Time
	// Reload is how long processes may take to notice: their longest reload interval, or with a key-encryption key in a
	// key service, the longest age of a data key. 0 is aead's default age of data keys, 24 hours, the longer of the two.
	Reload time.Duration
}

// MayDestroy answers whether the key of a keyset with this id may be destroyed without making anything unreadable that
// lies in Redis. Yes asks for all of this: the key is one of the keyset that was given and writes its id into what it
// seals; the scan was complete, saw something and left nothing out, neither names, but for Config.UnknownFormat, nor databases nor types; every sealed
// value named a key of that keyset, and none named this one; and the key has not been primary for longer than processes
// take to notice, when the scan began. The reasons come with any other answer. What lies elsewhere is elsewhere: other
// servers, backups, and keysets that are themselves sealed under the key.
func (r *Report) MayDestroy(id uint32, c Conditions) (Answer, []string) {
	var no []string
	for _, k := range r.Keys {
		if k.Named && k.ID == id {
			no = append(no, fmt.Sprintf("%d values are sealed under %s: reseal them", k.Values, k.Key))
		}
	}
	if i := slices.IndexFunc(c.Keyset, func(k aead.KeyInfo) bool { return k.ID == id }); i >= 0 && c.Keyset[i].Primary {
		no = append(no, "it is the primary key: make another one primary first")
	}
	if len(no) > 0 {
		return No, no
	}
	doubts := slices.Concat(r.scanDoubts(), r.scopeDoubts(), c.doubts(id, r.Started), r.keyDoubts(c.Keyset))
	if len(doubts) > 0 {
		return Unknown, doubts
	}
	return Yes, nil
}

// scopeDoubts are what was left out, and might be sealed under any key.
func (r *Report) scopeDoubts() []string {
	var doubts []string
	if r.Prefix != "" {
		doubts = append(doubts, "only names that begin with the prefix were looked at, and jobs were left out: run it without a prefix")
	} else if r.looked() == 0 {
		doubts = append(doubts, "there was nothing to look at: see whether this is the right server")
	}
	if len(r.Exclude) > 0 {
		doubts = append(doubts, "names were excluded, which may be sealed under any key: run it without")
	}
	if len(r.OtherDatabases) > 0 {
		doubts = append(doubts, fmt.Sprintf("databases %v of the same server were not looked at", r.OtherDatabases))
	}
	if r.Replica {
		doubts = append(doubts, "a replica may lack what its master has: audit the master")
	}
	if !r.IgnoredOtherTypes {
		doubts = append(doubts, r.typeDoubts()...)
	}
	return doubts
}

// typeDoubts name the entries that were not looked into.
func (r *Report) typeDoubts() []string {
	var doubts []string
	for _, t := range slices.Sorted(maps.Keys(r.OtherTypes)) {
		doubts = append(doubts, fmt.Sprintf("%d entries of type %s were not looked into: if you know that they hold nothing of the kind, ignore other types", r.OtherTypes[t], t))
	}
	return doubts
}

// doubts are what the conditions do not say of a key.
func (c *Conditions) doubts(id uint32, started time.Time) []string {
	var doubts []string
	i := slices.IndexFunc(c.Keyset, func(k aead.KeyInfo) bool { return k.ID == id })
	switch {
	case c.Keyset == nil:
		doubts = append(doubts, "the application's keyset was not given, so whether the key is primary is not known")
	case i < 0:
		doubts = append(doubts, "the keyset that was given holds no key with this id: give the one that the key is in (what a key-encryption key wraps is not in Redis alone: its own keyset may still be sealed under it)")
	case c.Keyset[i].Prefix != "TINK":
		doubts = append(doubts, fmt.Sprintf("the key has the output prefix %s: what it has sealed does not name it", c.Keyset[i].Prefix))
	}
	if c.Keyset != nil && !slices.ContainsFunc(c.Keyset, func(k aead.KeyInfo) bool { return k.Primary && k.Status == keyset.Enabled }) {
		doubts = append(doubts, "the keyset that was given has no primary key")
	}
	reload := c.Reload
	if reload <= 0 {
		reload = 24 * time.Hour
	}
	switch {
	case c.NotPrimarySince.IsZero():
		doubts = append(doubts, "when the key stopped being primary was not given")
	case started.Before(c.NotPrimarySince.Add(reload)):
		doubts = append(doubts, fmt.Sprintf("the scan began less than %v after the key stopped being primary: a process may have gone on using it; run it again later", reload))
	}
	return doubts
}

// keyDoubts are of values that may be sealed under any key.
func (r *Report) keyDoubts(keys []aead.KeyInfo) []string {
	var doubts []string
	var carried, unnamed, strangers Amount
	for _, k := range r.Keys {
		switch {
		case !k.Named && k.Key == heldLabel:
			carried.add(k.Values, k.Bytes)
		case !k.Named:
			unnamed.add(k.Values, k.Bytes)
		case keys != nil && !slices.ContainsFunc(keys, func(i aead.KeyInfo) bool { return i.ID == k.ID && i.Prefix == "TINK" }):
			// It may be none at all: the first bytes of what a key without a prefix or a key service has wrapped may be any.
			strangers.add(k.Values, k.Bytes)
		}
	}
	if carried.Values > 0 {
		doubts = append(doubts, fmt.Sprintf("%d tasks of type sealcache:held-member may hold values under this key: run them with a handler that has the key, or delete them", carried.Values))
	}
	if unnamed.Values > 0 {
		doubts = append(doubts, fmt.Sprintf("%d values do not name their key, which may be this one", unnamed.Values))
	}
	if strangers.Values > 0 {
		doubts = append(doubts, fmt.Sprintf("%d values name keys that the given keyset does not hold, or seem to: another application's (if you know its names, leave them out as foreign), or those of a key that writes no id, which may be this one", strangers.Values))
	}
	if n := r.unknownFormat() + r.Jobs.Unparsed; n > 0 {
		doubts = append(doubts, fmt.Sprintf("%d values are of foreign format: a newer release may read them", n))
	}
	return doubts
}

// unknownFormat counts values that begin as sealed ones and are none that this release knows.
func (r *Report) unknownFormat() int64 {
	n := r.Total.UnknownFormat.Values
	for _, t := range r.Jobs.tallies() {
		n += t.UnknownFormat.Values
	}
	return n
}

// Scope is what an answer holds for, in a line for people.
func (r *Report) Scope() string {
	var b strings.Builder
	server := "master(s)"
	if r.Replica {
		server = "server(s), of which any may be a replica"
	}
	fmt.Fprintf(&b, "database(s) %v on %d %s", r.Databases, r.Masters, server)
	if r.Prefix == "" {
		b.WriteString(", all names")
	} else {
		fmt.Fprintf(&b, ", names that begin with %q", r.Prefix)
	}
	if len(r.Exclude) > 0 {
		fmt.Fprintf(&b, "; NOT %d names that begin with %s, which were excluded", r.Excluded, quoted(r.Exclude))
	}
	if len(r.OtherApplications) > 0 {
		fmt.Fprintf(&b, "; NOT %d names that begin with %s, which are others' by the operator's word", r.OtherNames, quoted(r.OtherApplications))
	}
	if len(r.OtherDatabases) > 0 {
		fmt.Fprintf(&b, "; NOT databases %v of the same server", r.OtherDatabases)
	}
	b.WriteString("; NOT backups, dumps, replicas that are cut off, other servers, names and tags")
	return b.String()
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
	fmt.Fprintf(&b, "audit: %s, %d names in %v", state, r.Seen, r.Elapsed.Round(time.Millisecond))
	if s := r.Elapsed.Seconds(); s > 0 {
		fmt.Fprintf(&b, ", %.0f/s", float64(r.Seen)/s)
	}
	fmt.Fprintf(&b, "\nscope: %s\n", r.Scope())
	if r.Restarts > 0 {
		fmt.Fprintf(&b, "servers restarted, failed over or moved slots meanwhile; what they hold was scanned again: %d times\n", r.Restarts)
	}
	if !r.Opened {
		b.WriteString("values were not opened: what has the form of a sealed one is counted as one\n")
	}
	row := func(name string, t *Tally) {
		fmt.Fprintf(&b, "%-24s %12d clear (%d B) %12d sealed (%d B)", name, t.Plaintext.Values, t.Plaintext.Bytes, t.Sealed.Values, t.Sealed.Bytes)
		for _, x := range []struct {
			a    Amount
			text string
		}{{t.Unreadable, "unreadable"}, {t.UnknownFormat, "foreign"}, {t.Fernet, "Fernet"}} {
			if x.a.Values > 0 {
				fmt.Fprintf(&b, ", %d %s", x.a.Values, x.text)
			}
		}
		b.WriteByte('\n')
	}
	row("values", &r.Total)
	for i := range r.Groups {
		row("  "+r.Groups[i].Prefix, &r.Groups[i].Tally)
	}
	if r.Jobs.Tasks.Values+r.Jobs.Bookkeeping > 0 {
		fmt.Fprintf(&b, "jobs: %d tasks, %d entries of bookkeeping, %d not understood\n", r.Jobs.Tasks.Values, r.Jobs.Bookkeeping, r.Jobs.Unparsed)
		for i, name := range []string{"  payloads", "  results", "  error texts", "  of running jobs", "  of schedules", "  headers"} {
			row(name, r.Jobs.tallies()[i])
		}
	}
	for _, k := range r.Keys {
		fmt.Fprintf(&b, "under %-30s %12d values (%d B)\n", k.Key, k.Values, k.Bytes)
	}
	if r.TagSets > 0 {
		fmt.Fprintf(&b, "%d tag sets; their members, names, are in clear\n", r.TagSets)
	}
	for _, t := range slices.Sorted(maps.Keys(r.OtherTypes)) {
		fmt.Fprintf(&b, "%d of type %s, not looked into\n", r.OtherTypes[t], t)
	}
	for _, what := range slices.Sorted(maps.Keys(r.Samples)) {
		fmt.Fprintf(&b, "some that are %s:\n", what)
		for _, name := range r.Samples[what] {
			fmt.Fprintf(&b, "  %q\n", name)
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func sortKeys(keys []KeyUse) {
	slices.SortFunc(keys, func(a, b KeyUse) int {
		if c := cmp.Compare(b.Values, a.Values); c != 0 {
			return c
		}
		return strings.Compare(a.Key, b.Key)
	})
}
