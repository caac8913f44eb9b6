package migrate

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"
)

// Counts are what a run met and did, in entries unless named otherwise. SCAN may name an entry twice; the second time it
// is one that was already as it should be.
type Counts struct {
	// Seen are the names that the scan gave and that are in the space.
	Seen int64 `json:"seen"`
	// Written were changed; in a dry run they would be. After ErrWrongKeys they are as many at most.
	Written int64 `json:"written"`
	// AlreadyDone were as they should be.
	AlreadyDone int64 `json:"already_done"`
	// Opened were sealed, and opened, under Config.Keys or Config.OldKeys.
	Opened int64 `json:"opened"`
	// OpenedUnderKeys did so under Config.Keys. If there were none, nothing has shown that those and the namespace are the
	// application's; see Report.Unproven.
	OpenedUnderKeys int64 `json:"opened_under_keys"`
	// Disappeared were deleted, or expired, between being named and being read or written.
	Disappeared int64 `json:"disappeared"`
	// Retried counts the times that an entry had changed between being read and being written, and was read again.
	Retried int64 `json:"retried"`
	// Numbers are clear values that are whole numbers in the form that INCR leaves. With Config.LeaveNumbers they were left
	// in clear; otherwise they are among those written, and if something increments them it fails from then on: exclude
	// them by name, or leave numbers.
	Numbers int64 `json:"numbers"`
	// Fernet are those written that look like tokens of Fernet. They were sealed as they are: who opens them gets the token.
	Fernet int64 `json:"fernet"`
	// Deleted are old entries that were deleted after their move; in a dry run they would be.
	Deleted int64 `json:"deleted"`

	// What follows was left as it is, and should not have been; see Report.Left.

	// Plaintext were in plaintext, where Reseal was asked for.
	Plaintext int64 `json:"plaintext"`
	// Unreadable were sealed, and did not open: altered, bound to another name, or under another key of the same id.
	Unreadable int64 `json:"unreadable"`
	// UnknownKey were sealed under a key that was not given.
	UnknownKey int64 `json:"unknown_key"`
	// UnknownFormat begin as a sealed value does and are none that this release knows, or none of a cache.
	UnknownFormat int64 `json:"unknown_format"`
	// WrongType were values that cannot have the form that was asked for.
	WrongType int64 `json:"wrong_type"`
	// TooLarge were larger than Config.MaxValueBytes.
	TooLarge int64 `json:"too_large"`
	// KeptChanging changed again and again.
	KeptChanging int64 `json:"kept_changing"`
	// Conflicts: the new name was taken by something else, or by the same value with another expiry.
	Conflicts int64 `json:"conflicts"`
	// WouldBeMovedAgain: the new name would have been found by the scan as an old one.
	WouldBeMovedAgain int64 `json:"would_be_moved_again"`

	// What follows was left as it is because it is none of the run's business.

	// Excluded by name.
	Excluded int64 `json:"excluded"`
	// OtherTypes are entries that are not strings, by their type in Redis; tag sets are "tag set". Strings that PFADD made
	// are "HyperLogLog".
	OtherTypes map[string]int64 `json:"other_types,omitempty"`

	// TagSets and TagMembers were rewritten for new names.
	TagSets    int64 `json:"tag_sets"`
	TagMembers int64 `json:"tag_members"`
	// BytesRead and BytesWritten are of values.
	BytesRead    int64 `json:"bytes_read"`
	BytesWritten int64 `json:"bytes_written"`
	// Growth is by how many bytes names and values have grown, or would.
	Growth int64 `json:"growth"`
	// Evicted are entries that Redis evicted for want of memory during the run, whoever wanted it.
	Evicted int64 `json:"evicted"`
}

func (c *Counts) add(o *Counts) {
	c.Seen += o.Seen
	c.Written += o.Written
	c.AlreadyDone += o.AlreadyDone
	c.Opened += o.Opened
	c.OpenedUnderKeys += o.OpenedUnderKeys
	c.Disappeared += o.Disappeared
	c.Retried += o.Retried
	c.Numbers += o.Numbers
	c.Fernet += o.Fernet
	c.Deleted += o.Deleted
	c.Plaintext += o.Plaintext
	c.Unreadable += o.Unreadable
	c.UnknownKey += o.UnknownKey
	c.UnknownFormat += o.UnknownFormat
	c.WrongType += o.WrongType
	c.TooLarge += o.TooLarge
	c.KeptChanging += o.KeptChanging
	c.Conflicts += o.Conflicts
	c.WouldBeMovedAgain += o.WouldBeMovedAgain
	c.Excluded += o.Excluded
	c.TagSets += o.TagSets
	c.TagMembers += o.TagMembers
	c.BytesRead += o.BytesRead
	c.BytesWritten += o.BytesWritten
	c.Growth += o.Growth
	c.Evicted += o.Evicted
	for t, n := range o.OtherTypes {
		c.other(t, n)
	}
}

// unopened were sealed and did not open.
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

// Left is how many entries the run should have changed and did not, for reasons that waiting or another run may cure or
// not: each is counted by its reason.
func (c *Counts) Left() int64 {
	return c.Plaintext + c.Unreadable + c.UnknownKey + c.UnknownFormat + c.WrongType + c.TooLarge + c.KeptChanging + c.Conflicts + c.WouldBeMovedAgain
}

// Report is what a run did. It names no key.
type Report struct {
	Operation string `json:"operation"`
	From      string `json:"from"`         // what the names began with
	To        string `json:"to,omitempty"` // and begin with now
	DryRun    bool   `json:"dry_run"`
	// LeaveNumbers is as in Config.
	LeaveNumbers bool `json:"leave_numbers"`
	// Complete says that every master was scanned to its end, with no slots of a Cluster on the move meanwhile, and each of
	// them one master's.
	Complete bool `json:"complete"`
	// Runs is how many times it was started, resumptions included. Counts and Elapsed are of all of them; what a killed
	// run did after its last checkpoint is counted by the next one, as AlreadyDone.
	Runs    int           `json:"runs"`
	Started time.Time     `json:"started"`
	Elapsed time.Duration `json:"elapsed_ns"`
	// Masters is how many were scanned, Restarts how often the scan of one began again because the server had restarted or
	// failed over, or that of all because slots had moved.
	Masters  int `json:"masters"`
	Restarts int `json:"restarts"`
	// PrimaryChanged says that the key under which Keys seal is another one now than when the run began. Reseal has left
	// alone what is sealed under that of the beginning: run it again.
	PrimaryChanged bool `json:"primary_changed"`
	// Warnings are sentences for who reads the report. They name no keys.
	Warnings []string `json:"warnings,omitempty"`
	// Error is the text of the error that Run has returned.
	Error string `json:"error,omitempty"`
	Counts
}

// Done tells whether nothing remains to be done: the scan was complete and found anything, nothing was left, and Reseal
// has resealed under what is the primary key now.
func (r *Report) Done() bool {
	return r.Complete && r.Left() == 0 && !r.FoundNothing() && !r.PrimaryChanged
}

// FoundNothing tells whether no name was in the space that was asked for, which is as likely a mistake in the namespace or
// prefix. Of a whole database it is an answer.
func (r *Report) FoundNothing() bool { return r.Seen == 0 && r.From != "" }

// Unproven tells whether something was sealed, or would be, and no sealed entry has opened under Config.Keys: nothing has
// shown that those are the application's. What OldKeys open says nothing of them.
func (r *Report) Unproven() bool {
	return r.Operation != Unseal.String() && r.Written > 0 && r.OpenedUnderKeys == 0
}

// reportSchema is the number of the JSON form of a Report: it grows when a member changes its meaning or goes.
const reportSchema = 1

// MarshalJSON adds the number of the schema, 1, and what Left, Done and Unproven say.
func (r Report) MarshalJSON() ([]byte, error) {
	type members Report
	return json.Marshal(struct {
		Schema int `json:"schema"`
		members
		Left     int64 `json:"left"`
		Done     bool  `json:"done"`
		Unproven bool  `json:"unproven"`
	}{reportSchema, members(r), r.Left(), r.Done(), r.Unproven()})
}

// WriteText writes the report for people.
func (r *Report) WriteText(w io.Writer) error {
	var b strings.Builder
	what := r.Operation
	if r.DryRun {
		what += " (dry run: nothing was written)"
	}
	state := "complete"
	if !r.Complete {
		state = "NOT COMPLETE"
	}
	fmt.Fprintf(&b, "%s: %s, %d masters, %v", what, state, r.Masters, r.Elapsed.Round(time.Millisecond))
	if r.Runs > 1 {
		fmt.Fprintf(&b, ", in %d runs", r.Runs)
	}
	if s := r.Elapsed.Seconds(); s > 0 {
		fmt.Fprintf(&b, ", %.0f entries/s", float64(r.Seen)/s)
	}
	b.WriteByte('\n')
	line := func(n int64, text string) {
		if n != 0 {
			fmt.Fprintf(&b, "%12d  %s\n", n, text)
		}
	}
	line(r.Seen, "entries seen")
	if r.DryRun {
		line(r.Written, "would be written")
	} else {
		line(r.Written, "written")
	}
	if r.LeaveNumbers {
		line(r.Numbers, "whole numbers, left in clear")
	} else {
		line(r.Numbers, "of them whole numbers: if something increments them, exclude them or leave numbers (-leave-numbers)")
	}
	line(r.Fernet, "of them look like Fernet tokens, and stay tokens inside")
	line(r.AlreadyDone, "already as they should be")
	line(r.Disappeared, "vanished meanwhile")
	line(r.Retried, "read again because they changed meanwhile")
	if r.DryRun {
		line(r.Deleted, "old entries would be deleted")
	} else {
		line(r.Deleted, "old entries deleted")
	}
	line(r.TagSets, "tag sets rewritten")
	line(r.TagMembers, "memberships rewritten")
	line(r.Excluded, "excluded by name")
	for _, t := range slices.Sorted(maps.Keys(r.OtherTypes)) {
		line(r.OtherTypes[t], "of type "+t+", left alone")
	}
	line(r.BytesRead, "bytes read")
	line(r.BytesWritten, "bytes written")
	if r.Left() > 0 {
		fmt.Fprintf(&b, "LEFT UNDONE: %d\n", r.Left())
		line(r.Plaintext, "in clear")
		line(r.Unreadable, "do not open: altered, moved, or under another key")
		line(r.UnknownKey, "sealed under a key that was not given")
		line(r.UnknownFormat, "of foreign format")
		line(r.WrongType, "cannot have the form that was asked for")
		line(r.TooLarge, "too large")
		line(r.KeptChanging, "changed again and again: run it again")
		line(r.Conflicts, "whose new name is taken by something else, or by the same with another expiry")
		line(r.WouldBeMovedAgain, "whose new name looks like an old one")
	}
	if r.Complete && r.FoundNothing() {
		b.WriteString("NO NAME WAS FOUND that begins so: are namespace and prefix the application's?\n")
	}
	if r.PrimaryChanged {
		b.WriteString("THE PRIMARY KEY CHANGED during the run: run it again\n")
	}
	if r.Evicted > 0 {
		fmt.Fprintf(&b, "WARNING: Redis evicted %d entries meanwhile: it has too little memory\n", r.Evicted)
	}
	for _, w := range r.Warnings {
		fmt.Fprintf(&b, "WARNING: %s\n", w)
	}
	if r.Unproven() {
		if r.Opened > 0 {
			b.WriteString("NO SEALED ENTRY OPENED UNDER KEYS (-kek), all did under the old ones: see that those are the application's before it reads what was sealed, and before the old keys go.\n")
		} else {
			b.WriteString("No sealed entry was met that would show whether keys (-kek) and namespace are the application's: see that it reads what was sealed.\n")
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// Progress is where a run stands.
type Progress struct {
	Counts
	// Fraction is the part of the scan that is done, from 0 to 1, by the position of the cursors; it is exact as far as
	// entries are spread evenly over Redis' hash table, as they are.
	Fraction float64
	Elapsed  time.Duration // of this run
	// Rate is entries per second, over the last few calls. Remaining is 0 while it is not known.
	Rate      float64
	Remaining time.Duration
	// Final marks the last call.
	Final bool
}
