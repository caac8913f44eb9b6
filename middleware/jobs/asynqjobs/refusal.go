package asynqjobs

import (
	"errors"
	"strings"

	"github.com/hibiken/asynq"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/middleware/internal/asynqwire"
	"github.com/sealcache/sealcache/middleware/internal/box"
	"github.com/sealcache/sealcache/middleware/jobs"
)

// Reason is the stable code of why a task was not run.
type Reason string

// These reasons are definite: they archive a task at once.
const (
	ReasonNotSealed         = Reason(asynqwire.NotSealed)         // plaintext on a sealed queue
	ReasonUnauthentic       = Reason(asynqwire.Unauthentic)       // altered, moved, or under another key
	ReasonUnsupportedFormat = Reason(asynqwire.UnsupportedFormat) // of a newer release, or cut off
	ReasonKeyRemoved        = Reason(asynqwire.KeyRemoved)        // its key is disabled or destroyed
	ReasonTooLarge          = Reason(asynqwire.TooLarge)          // over jobs.WithMaxPayloadBytes
)

// These reasons have a task retried. With Config, the first three do not use up a try.
const (
	// ReasonKeyServiceUnavailable means that the key service did not answer.
	ReasonKeyServiceUnavailable = Reason(asynqwire.KeyServiceUnavailable)
	// ReasonTooManyDataKeys means that too many tasks under unknown data keys were opened at that time.
	ReasonTooManyDataKeys = Reason(asynqwire.TooManyDataKeys)
	// ReasonRewritten means that a worker older than asynq 0.26 has rewritten a unique task without its headers. Its
	// sealed payload was in a header and is gone. The task is retried once an hour, and keeps its id and its uniqueness.
	// So an operator sees which job has to be enqueued again, and deletes the task first. asynq archives it if it has no try left.
	ReasonRewritten = Reason(asynqwire.Rewritten)
	// ReasonUnknownKey means that the keyset does not hold the key, even after a reload.
	ReasonUnknownKey = Reason(asynqwire.UnknownKey)
	// ReasonNoGroupClient means that a held member of a group reached a handler without WithGroupClient.
	ReasonNoGroupClient = Reason(asynqwire.NoGroupClient)
	// ReasonNoTaskContext means that a handler was called outside an asynq.Server.
	ReasonNoTaskContext = Reason(asynqwire.NoTaskContext)
	// ReasonOther is any other reason, such as a context that ended.
	ReasonOther = Reason(asynqwire.Other)
)

// A Refusal is the error of a task that could not be opened. The ErrorHandler of Config gets it, and its text is stored in the
// task. A definite refusal is asynq.SkipRetry to errors.Is. errors.Is and errors.As also find the cause, such as
// jobs.ErrUnauthentic. The text of a Refusal is stored as plaintext. So it does not contain the text of the cause, in which a
// key service may name addresses and keys.
type Refusal struct {
	Reason Reason
	cause  error
}

// Error returns the stored text: the reason, its explanation, and the id of a key that is missing. It holds nothing of the
// task.
func (r *Refusal) Error() string {
	stored := asynqwire.Refusal{Code: asynqwire.Code(r.Reason)}
	var k *aead.KeyError
	if (r.Reason == ReasonUnknownKey || r.Reason == ReasonKeyRemoved) && errors.As(r.cause, &k) {
		stored.Key, stored.HasKey = k.KeyID, true
	}
	return stored.String()
}

// Unwrap returns the cause and, if the refusal is definite, asynq.SkipRetry.
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

// definite reports whether another try gives the same answer.
func (r *Refusal) definite() bool {
	switch r.Reason {
	case ReasonNotSealed, ReasonUnauthentic, ReasonUnsupportedFormat, ReasonKeyRemoved, ReasonTooLarge:
		return true
	default:
		return false
	}
}

// unanswered reports whether the key service did not answer. The task may be sound, so it does not lose a try.
func (r *Refusal) unanswered() bool {
	return r.Reason == ReasonKeyServiceUnavailable || r.Reason == ReasonTooManyDataKeys
}

// refusal makes a Refusal of an error of opening a task.
func refusal(err error) *Refusal {
	r := &Refusal{Reason: ReasonOther, cause: err}
	switch permanent := jobs.Permanent(err); {
	case errors.Is(err, asynqwire.ErrRewritten):
		r.Reason = ReasonRewritten
	case errors.Is(err, aead.ErrTooManyDataKeys):
		r.Reason = ReasonTooManyDataKeys
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
	case box.Refused(err): // not permanent, so under a key that the keyset does not hold
		r.Reason = ReasonUnknownKey
	case errors.Is(err, errNoGroupClient):
		r.Reason = ReasonNoGroupClient
	}
	return r
}

// refusalIn returns the Refusal in err, or nil.
func refusalIn(err error) *Refusal {
	var r *Refusal
	errors.As(err, &r)
	return r
}

// ReasonOf returns why a task was not run, from its last error, and reports whether that error was a Refusal. The text is
// stored as plaintext: a worker wrote it, or an attacker who can write to Redis.
func ReasonOf(info *asynq.TaskInfo) (Reason, bool) {
	if info == nil {
		return "", false
	}
	r, ok := asynqwire.ParseRefusal(info.LastErr)
	return Reason(r.Code), ok
}

// IsHiddenType reports whether typename, as Redis holds it, starts as the pseudonyms of WithHiddenTypes do. Only [OpenTask]
// returns the real name, and proves that there is one.
func IsHiddenType(typename string) bool {
	return strings.HasPrefix(typename, asynqwire.HiddenTypePrefix)
}
