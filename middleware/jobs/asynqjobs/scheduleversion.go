package asynqjobs

import (
	"slices"
	"strconv"
	"strings"
)

// version is the text under which Redis keeps the state of the schedules:
//
//	generation count change change ...
//
// Each change of the schedules adds a random id in front and removes the oldest one.
// The change that ends a schedule carries its field, as in "id:field". A new
// generation starts where no version was, as after a FLUSHALL. It also starts where
// a scheduler has noticed that Redis went back to an older state. It then keeps the list.
//
// A scheduler remembers the version that it read last. So it can distinguish whether a process
// cancelled a missing schedule, or whether Redis lost it.
type version struct {
	text       string
	generation string
	count      uint64   // of changes in this generation
	changes    []string // the latest, newest first
}

// maxChanges is how many changes a version lists. swapScript uses the same number.
const maxChanges = 16

// parseVersion reads a stored version. A text that no scheduler wrote has no
// generation.
func parseVersion(text string) version {
	v := version{text: text}
	fields := strings.Split(text, " ")
	if len(fields) < 3 || slices.Contains(fields, "") {
		return v
	}
	count, err := strconv.ParseUint(fields[1], 10, 64)
	if err != nil {
		return v
	}
	v.generation, v.count, v.changes = fields[0], count, fields[2:]
	return v
}

// ended reports whether a new change ended the schedule of the field.
func (v version) ended(field string, isNew func(change string) bool) bool {
	return slices.ContainsFunc(v.changes, func(change string) bool {
		_, of, _ := strings.Cut(change, ":")
		return of == field && isNew(change)
	})
}

// descent is how a version relates to an earlier one.
type descent int

const (
	// continued versions list every change since the earlier version.
	continued descent = iota
	// uncertain versions have more changes since the earlier version than a version lists.
	uncertain
	// lost versions do not come after the earlier one: Redis lost data.
	lost
)

// since returns how v relates to the version that a scheduler saw earlier.
func (v version) since(seen version) descent {
	switch {
	case v.text == seen.text:
		return continued
	case v.generation == "" || v.generation != seen.generation:
		return lost
	case slices.Contains(v.changes, seen.changes[0]):
		return continued
	case v.count >= seen.count+maxChanges:
		return uncertain
	default:
		return lost
	}
}
