package migrate

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/sealcache/sealcache/internal/names"
)

// Counts are the results of a run, in entries unless named otherwise. SCAN may name an entry twice. The second time
// it is AlreadyDone.
type Counts struct {
	// Seen counts the names in the space.
	Seen int64 `json:"seen"`
	// Written counts entries that were changed, or would be in a dry run. After ErrWrongKeys it is an upper bound.
	Written int64 `json:"written"`
	// AlreadyDone counts entries that needed no change.
	AlreadyDone int64 `json:"already_done"`
	// Opened counts sealed values that opened under Config.Keys or Config.OldKeys.
	Opened int64 `json:"opened"`
	// OpenedUnderKeys counts those under Config.Keys.
	OpenedUnderKeys int64 `json:"opened_under_keys"`
	// Disappeared counts entries that were deleted or expired before they were read or written.
	Disappeared int64 `json:"disappeared"`
	// Retried counts how often an entry had changed before it was written, and was read again.
	Retried int64 `json:"retried"`
	// Numbers counts plaintext values that are whole numbers as INCR writes them. With Config.LeaveNumbers they were left
	// alone. Otherwise they are among Written, and INCR on them fails.
	Numbers int64 `json:"numbers"`
	// Fernet counts values in Written that look like Fernet tokens. They were sealed as tokens.
	Fernet int64 `json:"fernet"`
	// Renamed counts entries among Written that have another hidden name now, or a hidden name for the first time.
	Renamed int64 `json:"renamed"`
	// Deleted counts old entries that were deleted after their move, or would be.
	Deleted int64 `json:"deleted"`

	// The following entries should have been changed and were not. See Report.NotChanged.

	// Plaintext counts plaintext values that Reseal met.
	Plaintext int64 `json:"plaintext"`
	// Unreadable counts sealed values that do not open: altered, bound to another name, or under another key of the same id.
	Unreadable int64 `json:"unreadable"`
	// UnknownKey counts values that are sealed under a key that was not given.
	UnknownKey int64 `json:"unknown_key"`
	// UnknownFormat counts values that start like sealed values but have a format or kind that this release does not know
	// or expect there.
	UnknownFormat int64 `json:"unknown_format"`
	// UnknownPRFKey counts entries whose name is hidden under a PRF key that was not given.
	UnknownPRFKey int64 `json:"unknown_prf_key"`
	// OneWay counts entries that should get another name, and whose key is not stored (middleware.WithOneWayKeys). Keep
	// the older PRF key enabled until they have expired.
	OneWay int64 `json:"one_way"`
	// PlainNames counts sealed values under plain names that Reseal met with Config.HiddenKeys. Seal hides them.
	PlainNames int64 `json:"plain_names"`
	// WrongType counts values that cannot be converted to the requested type.
	WrongType int64 `json:"wrong_type"`
	// TooLarge counts values larger than Config.MaxValueBytes.
	TooLarge int64 `json:"too_large"`
	// KeptChanging counts entries that changed again and again.
	KeptChanging int64 `json:"kept_changing"`
	// Expired counts values whose sealed expiry has passed, and that still exist. Unseal would make them readable again.
	Expired int64 `json:"expired"`
	// Conflicts counts entries whose new name is taken by another value, or by the same with another expiry. It also counts plain
	// entries whose key has an entry under another hidden name.
	Conflicts int64 `json:"conflicts"`
	// WouldBeMovedAgain counts entries whose new name the scan would find as an old one.
	WouldBeMovedAgain int64 `json:"would_be_moved_again"`

	// The following entries are outside the run's task.

	// Excluded counts names that Config.Exclude matched.
	Excluded int64 `json:"excluded"`
	// Reserved counts names of asynq, key checks and the records of runs.
	Reserved int64 `json:"reserved"`
	// OtherTypes counts entries that are not strings, by their type in Redis. Tag sets are "tag set", and strings of PFADD
	// "HyperLogLog". A run that changes names leaves them behind: see Report.NotChanged.
	OtherTypes map[string]int64 `json:"other_types,omitempty"`

	// TagSets and TagMembers were rewritten for new names.
	TagSets    int64 `json:"tag_sets"`
	TagMembers int64 `json:"tag_members"`
	// TagsSealed counts the TagMembers whose tag is sealed in the value after Seal has hidden its name.
	TagsSealed int64 `json:"tags_sealed"`
	// TagsNotSealed counts the TagMembers whose value could not take the tag: key and tags together exceed 16 KiB, or the entry kept
	// changing. Invalidate finds such an entry, but a later change of the PRF key loses its tag.
	TagsNotSealed int64 `json:"tags_not_sealed"`
	// BytesRead and BytesWritten count the bytes of values.
	BytesRead    int64 `json:"bytes_read"`
	BytesWritten int64 `json:"bytes_written"`
	// Growth is how many bytes names and values have grown, or would.
	Growth int64 `json:"growth"`
	// Evicted counts entries that Redis evicted for lack of memory during the run.
	Evicted int64 `json:"evicted"`
}

// add adds all counts of o. Reflection includes each field that is added to Counts later.
func (c *Counts) add(o *Counts) {
	sum, more := reflect.ValueOf(c).Elem(), reflect.ValueOf(o).Elem()
	for i := range sum.NumField() {
		if n := sum.Field(i); n.Kind() == reflect.Int64 {
			n.SetInt(n.Int() + more.Field(i).Int())
		}
	}
	for t, n := range o.OtherTypes {
		c.other(t, n)
	}
}

// work returns the counts that stay true when a master is scanned again.
func (c *Counts) work() *Counts {
	return &Counts{
		Retried: c.Retried, Fernet: c.Fernet, Deleted: c.Deleted, TagSets: c.TagSets, TagMembers: c.TagMembers,
		TagsSealed: c.TagsSealed, TagsNotSealed: c.TagsNotSealed, BytesRead: c.BytesRead, BytesWritten: c.BytesWritten, Growth: c.Growth, Evicted: c.Evicted,
	}
}

// state returns the other counts. They are findings of a scan, and are reset when the scan begins again.
func (c *Counts) state() *Counts {
	s := c.clone()
	s.Retried, s.Fernet, s.Deleted, s.TagSets, s.TagMembers, s.TagsSealed, s.TagsNotSealed = 0, 0, 0, 0, 0, 0, 0
	s.BytesRead, s.BytesWritten, s.Growth, s.Evicted = 0, 0, 0, 0
	return &s
}

// unopened counts sealed values that did not open.
func (c *Counts) unopened() int64 { return c.Unreadable + c.UnknownKey }

func (c *Counts) other(kind string, n int64) {
	if c.OtherTypes == nil {
		c.OtherTypes = make(map[string]int64)
	}
	c.OtherTypes[kind] += n
}

func (c *Counts) clone() Counts {
	d := *c
	d.OtherTypes = maps.Clone(c.OtherTypes)
	return d
}

// Report is the result of a run. The only key names in it are those that the caller gave in the Config. In JSON, they have the
// form that audit.Report describes.
type Report struct {
	Operation string `json:"operation"`
	// Servers are the addresses of the client, and Databases has the selected one.
	Servers   []string `json:"servers"`
	Databases []int    `json:"databases"`
	// Key names the key under which Keys sealed at the start, such as "key 17" or "key 17 of a KEK". KeyID is its id, if it has
	// one.
	Key   string `json:"key_name"`
	KeyID uint32 `json:"key_id,omitempty"`
	From  string `json:"from"`         // what the stored names started with
	To    string `json:"to,omitempty"` // and what the new ones start with
	// MovedNames reports whether stored names changed.
	MovedNames bool `json:"moved_names"`
	// HiddenNames reports whether Config.HiddenKeys or Config.OneWayKeys was given. PRFKey is the id of their primary key.
	HiddenNames bool   `json:"hidden_names"`
	PRFKey      uint32 `json:"prf_key_id,omitempty"`
	DryRun      bool   `json:"dry_run"`
	// LeaveNumbers is as in Config.
	LeaveNumbers bool `json:"leave_numbers"`
	// KeysProvenBy is "key check", "proof", or empty after Config.AllowUnproven.
	KeysProvenBy string `json:"keys_proven_by"`
	// UnmatchedExcludes are the prefixes of Config.Exclude that matched no key.
	UnmatchedExcludes []string `json:"unmatched_excludes,omitempty"`
	// Complete reports whether every master was scanned to its end, while no slots of a Cluster moved.
	Complete bool `json:"complete"`
	// Runs is how often the run was started, resumptions included. Counts and Elapsed are of all of them. Entries
	// that a killed run wrote after its last checkpoint count as AlreadyDone in the next run.
	Runs    int           `json:"runs"`
	Started time.Time     `json:"started"`
	Elapsed time.Duration `json:"-"` // elapsed_seconds in JSON
	// Masters is how many were scanned. Restarts is how often a scan began again, because a server restarted or
	// failed over, or slots moved. Counts of findings are then those of the last scan.
	Masters  int `json:"masters"`
	Restarts int `json:"restarts"`
	// PrimaryChanged reports whether Keys seal under another key now than at the start. Reseal has not resealed
	// values under the earlier key: run it again.
	PrimaryChanged bool `json:"primary_changed"`
	// Moved reports whether SWAPDB, MOVE or CONFIG RESETSTAT may have been called during the run, as in audit.Report. Entries
	// may be left: run it again.
	Moved bool `json:"moved"`
	// OppositeLeft reports whether Redis has the record of an earlier opposite run on the same names (Seal and Unseal are
	// opposites) that did not end. It was stopped, or still runs and undoes this work. Run this again when it no longer runs.
	// The next run does not report it again.
	OppositeLeft bool `json:"opposite_left"`
	// Warnings are sentences for the reader of the report. They name no keys.
	Warnings []string `json:"warnings,omitempty"`
	// Error is the text of the error that Run has returned.
	Error string `json:"error,omitempty"`
	Counts
}

// NotChanged returns how many entries, and tags of entries, the run should have changed and did not
// change. Each is counted by its reason.
// If names changed, entries of other types stayed behind under the old names, and count too.
func (r *Report) NotChanged() int64 {
	c := &r.Counts
	n := c.Plaintext + c.unopened() + c.UnknownFormat + c.UnknownPRFKey + c.OneWay + c.PlainNames + c.WrongType + c.TooLarge + c.KeptChanging + c.Expired + c.Conflicts + c.WouldBeMovedAgain
	return n + c.TagsNotSealed + r.underOldNames()
}

// underOldNames counts entries of other types under the old names.
func (r *Report) underOldNames() int64 {
	var n int64
	if r.MovedNames && r.Operation == Seal.String() || r.MovedNames && !r.HiddenNames {
		for kind, of := range r.OtherTypes {
			if kind != "tag set" {
				n += of
			}
		}
	}
	return n
}

// Done reports whether nothing is left to do. The scan was complete, found entries and left none. Every filter matched,
// Reseal has used the present primary key, and Moved and OppositeLeft are false.
func (r *Report) Done() bool {
	return r.Complete && r.NotChanged() == 0 && !r.FoundNothing() && !r.PrimaryChanged && !r.Moved && !r.OppositeLeft && len(r.UnmatchedExcludes) == 0
}

// FoundNothing reports whether no name was in the space. In a whole database that is an answer. Elsewhere it is likely a
// mistake in the namespace or prefix.
func (r *Report) FoundNothing() bool { return r.Seen == 0 && r.From != "" }

// Unproven reports whether values were sealed, or would be, and nothing has proved that Keys are the application's.
func (r *Report) Unproven() bool {
	return r.Operation != Unseal.String() && r.Written > 0 && r.KeysProvenBy == ""
}

// reportSchema is the number of the JSON form of a Report. It grows when a member goes or changes its meaning.
const reportSchema = 1

// MarshalJSON adds the number of the schema, Elapsed in seconds, and the results of NotChanged, Done and Unproven. It quotes
// names that need it.
func (r Report) MarshalJSON() ([]byte, error) {
	type members Report
	m := members(r)
	m.From, m.To, m.UnmatchedExcludes = names.JSON(r.From), names.JSON(r.To), names.AllJSON(r.UnmatchedExcludes)
	return json.Marshal(struct {
		Schema int `json:"schema"`
		members
		Elapsed    float64 `json:"elapsed_seconds"`
		NotChanged int64   `json:"not_changed"`
		Done       bool    `json:"done"`
		Unproven   bool    `json:"unproven"`
	}{reportSchema, m, r.Elapsed.Seconds(), r.NotChanged(), r.Done(), r.Unproven()})
}

// WriteText writes the report for people.
func (r *Report) WriteText(w io.Writer) error {
	var b strings.Builder
	what := r.Operation
	if what == Seal.String() {
		what = "migrate"
	}
	if r.DryRun {
		what += " (dry run: nothing was written)"
	}
	state := "complete"
	if !r.Complete {
		state = "NOT COMPLETE"
	}
	fmt.Fprintf(&b, "%s: %s, %s, %v", what, state, count(r.Masters, "master", "masters"), r.Elapsed.Round(time.Millisecond))
	if r.Runs > 1 {
		fmt.Fprintf(&b, ", in %d runs", r.Runs)
	}
	if s := r.Elapsed.Seconds(); s > 0 {
		fmt.Fprintf(&b, ", %.0f entries/s", float64(r.Seen)/s)
	}
	b.WriteByte('\n')
	r.writeCounts(&b)
	r.writeNotes(&b)
	_, err := io.WriteString(w, b.String())
	return err
}

func (r *Report) writeCounts(b *strings.Builder) {
	line := func(n int64, text string) {
		if n != 0 {
			fmt.Fprintf(b, "%12d  %s\n", n, text)
		}
	}
	dry := func(would, did string) string {
		if r.DryRun {
			return would
		}
		return did
	}
	line(r.Seen, noun(r.Seen, "entry", "entries")+" seen")
	line(r.Written, dry("would be written", "written"))
	if r.LeaveNumbers {
		line(r.Numbers, "whole numbers, left as plaintext")
	} else {
		line(r.Numbers, "of them whole numbers: INCR fails on sealed numbers (set Config.Exclude or Config.LeaveNumbers)")
	}
	line(r.Fernet, "of them look like Fernet tokens (of django-secure-redis): sealed without opening them")
	line(r.AlreadyDone, "needed no change")
	line(r.Disappeared, "disappeared during the run")
	line(r.Retried, "read again because the application changed them")
	line(r.Renamed, dry("of the written entries would get a new hidden name", "of the written entries have a new hidden name"))
	line(r.Deleted, "old "+noun(r.Deleted, "entry", "entries")+dry(" would be deleted", " deleted"))
	line(r.TagSets, noun(r.TagSets, "tag set", "tag sets")+" of gocache"+dry(" would get new entry names", " got new entry names"))
	line(r.TagMembers, "new entry "+noun(r.TagMembers, "name", "names")+" in these tag sets")
	line(r.TagsSealed, "of their entries have the tag sealed in the value")
	line(r.Excluded, "excluded by name")
	line(r.Reserved, "skipped: Redis keys of asynq, and of sealcache itself")
	for _, t := range slices.Sorted(maps.Keys(r.OtherTypes)) {
		line(r.OtherTypes[t], "of type "+t+", not examined")
	}
	line(r.BytesRead, "bytes read")
	line(r.BytesWritten, "bytes written")
	if r.NotChanged() == 0 {
		return
	}
	fmt.Fprintf(b, "NOT CHANGED: %d\n", r.NotChanged())
	line(r.Plaintext, "plaintext")
	line(r.Unreadable, "do not open: altered, moved, or under another encryption key")
	line(r.UnknownKey, "sealed under an encryption key that was not given")
	line(r.UnknownFormat, "of unknown format")
	line(r.UnknownPRFKey, "hidden under a PRF key that was not given")
	line(r.OneWay, "with a one-way hidden name under an older PRF key: keep that PRF key until these entries expire")
	line(r.PlainNames, "sealed, but with names that are not hidden: the operation Seal (command migrate) hides them")
	line(r.WrongType, "cannot be converted to the requested type")
	line(r.TooLarge, "larger than Config.MaxValueBytes allows")
	line(r.KeptChanging, "changed by the application again and again: repeat the run")
	line(r.Expired, "expired (the expiry time is sealed in the value): delete them")
	line(r.Conflicts, "whose new name already holds another value or expiry")
	line(r.WouldBeMovedAgain, "whose new name starts like the old names, so the next run would move them again")
	line(r.TagsNotSealed, "entries with a tag that is not sealed in the value: let the application write them again")
	line(r.underOldNames(), "of other types, still under the old names")
}

// noun returns the form of a noun for a number.
func noun[N int | int64](n N, one, many string) string {
	if n == 1 {
		return one
	}
	return many
}

// count returns a number with its noun.
func count[N int | int64](n N, one, many string) string {
	return fmt.Sprintf("%d %s", n, noun(n, one, many))
}

func (r *Report) writeNotes(b *strings.Builder) {
	if r.Complete && r.FoundNothing() {
		b.WriteString("NO NAME WAS FOUND in this namespace or prefix: check both\n")
	}
	for _, p := range r.UnmatchedExcludes {
		fmt.Fprintf(b, "NOTHING MATCHED the excluded prefix %q: check this prefix\n", p)
	}
	if r.PrimaryChanged {
		b.WriteString("THE PRIMARY KEY CHANGED in the keyset during the run: repeat the run\n")
	}
	if r.Evicted > 0 {
		fmt.Fprintf(b, "WARNING: Redis evicted %s during the run, because it has too little memory\n", count(r.Evicted, "entry", "entries"))
	}
	for _, w := range r.Warnings {
		fmt.Fprintf(b, "WARNING: %s\n", w)
	}
	if r.Unproven() {
		b.WriteString("NOTHING PROVED THAT THESE ARE THE APPLICATION'S KEYS: check that the application can read the sealed entries\n")
	}
}
