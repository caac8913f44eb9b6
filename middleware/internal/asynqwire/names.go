// Package asynqwire defines the names and texts that package asynqjobs writes to Redis. Examples are the names of
// headers, and the error text of a task that cannot be opened. asynq is a job queue in Redis, and asynqjobs seals
// (encrypts) its tasks.
//
// asynqjobs writes with these definitions. Packages monitor and audit read with them. FORMAT.md, section "Jobs on
// asynq", specifies the names and texts.
//
// The error text of a task can contain secrets. Before you show or log the text, pass it to [ParseFailure], which
// returns its kind. The text is safe to show only if [FailureKind.Public] returns true for this kind.
package asynqwire

import (
	"strings"

	"github.com/sealcache/sealcache/internal/names"
)

const (
	// KeyPrefix starts the names of all keys that asynq writes to Redis.
	KeyPrefix = names.Asynq + ":"

	// PayloadHeader is the header of a unique task. It holds the sealed payload as unpadded base64, because the payload
	// itself is the tag that asynq compares.
	PayloadHeader = "sealcache-payload"

	// HeldMemberHeader marks, with the value HeldMember, a task of type HeldMemberType. The group member inside may be
	// sealed under a key that the task does not name. The header is not authenticated: an attacker who can remove it
	// could remove the task.
	HeldMemberHeader = "sealcache-held-member"
	// HeldMember is the only value of HeldMemberHeader.
	HeldMember = "1"
	// HeldMemberType is the type of a task that holds one member of a group until the member opens.
	HeldMemberType = "sealcache:held-member"
	// GroupWakeType is the type of a member of a group that only makes asynq look at the group again.
	GroupWakeType = "sealcache:group-wake"

	// ReservedHeaders starts the names of all headers that asynqjobs writes. An application cannot use them.
	ReservedHeaders = "sealcache-"

	// HiddenTypePrefix starts the pseudonym of a hidden type name.
	HiddenTypePrefix = "sealed:"

	// TickIDInfix is a part of the id of a tick's task, after eight hexadecimal digits. asynqmon shows an id up to its
	// first "-", so these digits distinguish ticks.
	TickIDInfix = "-tick-"

	schedulePrefix   = "{sealcache:jobs:"
	schedulesSuffix  = "}:schedules"
	lastTicksSuffix  = "}:ticks"
	asynqTaskPrefix  = KeyPrefix + "{"
	asynqTaskDivider = "}:t:"
)

// The domains of the keyed tokens that asynqjobs makes; see jobs.Tokens.
const (
	UniqueDomain   = "asynqjobs.unique"
	TypeDomain     = "asynqjobs.type"
	ScheduleDomain = "asynqjobs.schedule"
)

// SchedulesKey returns the name of the hash that holds the sealed schedules of a namespace.
func SchedulesKey(namespace string) string { return schedulePrefix + namespace + schedulesSuffix }

// TicksKey returns the name of the hash that holds the times of the last ticks of a namespace.
func TicksKey(namespace string) string { return schedulePrefix + namespace + lastTicksSuffix }

// ParseSchedulesKey returns the namespace of a name that SchedulesKey made.
func ParseSchedulesKey(name string) (namespace string, ok bool) { return cutKey(name, schedulesSuffix) }

// ParseTicksKey returns the namespace of a name that TicksKey made.
func ParseTicksKey(name string) (namespace string, ok bool) { return cutKey(name, lastTicksSuffix) }

// IsScheduleKey reports whether name starts as the names of SchedulesKey and TicksKey do.
func IsScheduleKey(name string) bool { return strings.HasPrefix(name, schedulePrefix) }

// cutKey cuts schedulePrefix and suffix off. No namespace contains a brace.
func cutKey(name, suffix string) (namespace string, ok bool) {
	rest, ok1 := strings.CutPrefix(name, schedulePrefix)
	namespace, ok2 := strings.CutSuffix(rest, suffix)
	return namespace, ok1 && ok2 && !strings.ContainsAny(namespace, "{}")
}

// IsTaskKey reports whether name is the name of a task's hash in asynq: asynq:{queue}:t:id.
func IsTaskKey(name string) bool {
	rest, ok := strings.CutPrefix(name, asynqTaskPrefix)
	return ok && strings.Contains(rest, asynqTaskDivider)
}

// VersionField is the field of TicksKey that holds the version of the schedules. The other fields hold times.
const VersionField = "version"

// ScheduleVersionSize is the length of a version of the schedules: a random text in base32.
const ScheduleVersionSize = 12

// IsScheduleVersion reports whether text has the form of a version of the schedules. The form is strict, so that a payload is
// hardly ever accepted as a version.
func IsScheduleVersion(text string) bool {
	return isWord(text, ScheduleVersionSize, ScheduleVersionSize, base32)
}

const (
	fieldSize = 43 // a token

	base32    = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
	base64url = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
)

// IsScheduleField reports whether text has the form of a schedule's field: a keyed token.
func IsScheduleField(text string) bool { return isWord(text, fieldSize, fieldSize, base64url) }

// isWord reports whether s has least to most characters of an alphabet.
func isWord(s string, least, most int, alphabet string) bool {
	return len(s) >= least && len(s) <= most && strings.Trim(s, alphabet) == ""
}
