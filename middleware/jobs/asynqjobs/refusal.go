package asynqjobs

import (
	"errors"
	"fmt"
	"strings"

	"github.com/hibiken/asynq"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/middleware/jobs"
)

// Reason says why a task was not run.
type Reason string

// The reasons. Those of the first group are definite and archive a task at once;
// those of the second have it retried, and stand in the archive only if its
// tries ran out.
const (
	ReasonNotSealed         Reason = "not_sealed"         // in clear on a sealed queue
	ReasonUnauthentic       Reason = "unauthentic"        // altered, moved, or under another key
	ReasonUnsupportedFormat Reason = "unsupported_format" // of a newer release, or cut off
	ReasonKeyRemoved        Reason = "key_removed"        // its key is disabled or destroyed
	ReasonTooLarge          Reason = "too_large"          // over jobs.WithMaxPayloadBytes
	ReasonGroup             Reason = "group_members"      // members of its group were refused; the others were run

	ReasonUnknownKey            Reason = "unknown_key"             // not in the keyset, also after a reload
	ReasonKeyServiceUnavailable Reason = "key_service_unavailable" // nobody said no
	ReasonOther                 Reason = "other"                   // such as a context that ended
)

// Refusal is the error of a task that could not be opened: to the ErrorHandler of
// Config, and, as text, in the archive. If it is definite it is asynq.SkipRetry
// to errors.Is. The cause (jobs.ErrUnauthentic and others) is seen by errors.Is
// and errors.As, too, and only by them: its text may be a key service's, with
// addresses and names of keys, and that of a Refusal stands in Redis in clear.
type Refusal struct {
	Reason Reason
	cause  error
	group  string // what became of members, for ReasonGroup
}

// refusalText starts the text of every Refusal.
const refusalText = "sealcache: refused: "

// Error is what asynq stores in clear: the reason, and the id of a key that is
// not there. It holds nothing of the task and nothing of the cause's own words.
func (r *Refusal) Error() string {
	text := r.Reason.describe()
	var k *aead.KeyError
	switch {
	case r.Reason == ReasonGroup:
		text = r.group
	case (r.Reason == ReasonUnknownKey || r.Reason == ReasonKeyRemoved) && errors.As(r.cause, &k):
		text = fmt.Sprintf("%s: key %d", text, k.KeyID)
	}
	return fmt.Sprintf("%s%s: %s", refusalText, r.Reason, text)
}

// describe says in words of ours what a reason means.
func (r Reason) describe() string {
	switch r {
	case ReasonNotSealed:
		return "in clear where sealed tasks are expected"
	case ReasonUnauthentic:
		return "altered, moved or sealed under another key"
	case ReasonUnsupportedFormat:
		return "sealed by a newer release, or cut off"
	case ReasonKeyRemoved:
		return "sealed under a key that is disabled or destroyed"
	case ReasonTooLarge:
		return "larger than jobs.WithMaxPayloadBytes allows"
	case ReasonUnknownKey:
		return "sealed under a key that the keyset does not hold"
	case ReasonKeyServiceUnavailable:
		return "the key service could not be asked"
	default:
		return "could not be opened"
	}
}

// Unwrap gives errors.Is the cause and, if the refusal is definite,
// asynq.SkipRetry.
func (r *Refusal) Unwrap() []error {
	var errs []error
	if r.cause != nil {
		errs = append(errs, r.cause)
	}
	if r.definite() {
		errs = append(errs, asynq.SkipRetry)
	}
	return errs
}

func (r *Refusal) definite() bool {
	switch r.Reason {
	case ReasonUnknownKey, ReasonKeyServiceUnavailable, ReasonOther:
		return false
	default:
		return true
	}
}

// refusal makes a Refusal of an error of jobs.Encryptor.Open.
func refusal(err error) *Refusal {
	r := &Refusal{Reason: ReasonOther, cause: err}
	switch permanent := jobs.Permanent(err); {
	case permanent && errors.Is(err, jobs.ErrUnknownKey):
		r.Reason = ReasonKeyRemoved
	case permanent && errors.Is(err, jobs.ErrNotSealed):
		r.Reason = ReasonNotSealed
	case permanent && errors.Is(err, jobs.ErrUnauthentic):
		r.Reason = ReasonUnauthentic
	case permanent && errors.Is(err, jobs.ErrUnsupportedFormat):
		r.Reason = ReasonUnsupportedFormat
	case permanent && errors.Is(err, jobs.ErrTooLarge):
		r.Reason = ReasonTooLarge
	case errors.Is(err, jobs.ErrKeyServiceUnavailable):
		r.Reason = ReasonKeyServiceUnavailable
	case errors.Is(err, jobs.ErrUnknownKey):
		r.Reason = ReasonUnknownKey
	}
	return r
}

// outage tells whether err says that nobody could say whether a task opens.
func outage(err error) bool {
	var r *Refusal
	return errors.As(err, &r) && r.Reason == ReasonKeyServiceUnavailable
}

// ReasonOf tells why a task was not run, from its last error, and whether that
// was a Refusal at all. A task whose last error is a failure of its own, and that holds
// refused members, has ReasonGroup, too; see OpenFailure. The text stands in clear: it tells what a worker wrote, or
// someone who can write to Redis.
func ReasonOf(info *asynq.TaskInfo) (Reason, bool) {
	if info == nil {
		return "", false
	}
	rest, ok := strings.CutPrefix(strings.TrimPrefix(cutPanic(info.LastErr), "panic error cause by: "), refusalText)
	if !ok {
		return "", false
	}
	name, _, ok := strings.Cut(rest, ":")
	return Reason(name), ok
}
