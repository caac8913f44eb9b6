package monitor

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/hibiken/asynq"

	"github.com/sealcache/sealcache/middleware/jobs"
	"github.com/sealcache/sealcache/middleware/jobs/asynqjobs"
)

// What stands where contents are not shown.
const (
	withheld    = "[withheld]"
	gone        = "[the task is gone]"
	notRead     = "[not read: Redis does not answer]"
	tooMany     = "[not opened: too many tasks on one page]"
	tooLarge    = "[not opened: too large for this page]"
	notSealed   = "[not sealed] "
	unformatted = "[cannot be formatted]"
)

// why says why something does not open, without what an error may quote.
func why(err error) string {
	switch {
	case errors.Is(err, jobs.ErrKeyServiceUnavailable), errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return "[not opened: the key service does not answer]"
	case errors.Is(err, jobs.ErrUnknownKey) && jobs.Permanent(err):
		return "[not opened: its key is disabled or destroyed]"
	case errors.Is(err, jobs.ErrUnknownKey):
		return "[not opened: sealed under a key that is not in the keyset]"
	case errors.Is(err, jobs.ErrUnauthentic):
		return "[not opened: altered, moved, or sealed under another key]"
	case errors.Is(err, jobs.ErrUnsupportedFormat):
		return "[not opened: unknown format, or cut off]"
	case errors.Is(err, jobs.ErrTooLarge):
		return tooLarge
	default:
		return "[not opened]"
	}
}

// plain is the default formatter.
func plain(b []byte) string {
	if !utf8.Valid(b) || strings.ContainsFunc(string(b), func(r rune) bool {
		return r < ' ' && r != '\n' && r != '\r' && r != '\t' || r == 0x7f
	}) {
		return fmt.Sprintf("[%d bytes, in base64] %s", len(b), base64.StdEncoding.EncodeToString(b))
	}
	return string(b)
}

// formatted calls the application's formatter.
func (h *Handler) formatted(typename string, b []byte) (text string) {
	defer func() {
		if recover() != nil { // its text may quote the payload
			text = unformatted
		}
	}()
	return strings.ToValidUTF8(h.cfg.format(typename, b), "\uFFFD")
}

// cut shortens text at a character.
func cut(text string, limit int) string {
	if len(text) <= limit {
		return text
	}
	n := limit
	for n > 0 && !utf8.RuneStart(text[n]) {
		n--
	}
	return fmt.Sprintf("%s... [%d bytes more]", text[:n], len(text)-n)
}

// publicFailure returns an error text as those may see it who may not see
// contents: that there is one, and what asynq and asynqjobs themselves say, which
// holds nothing of the job. Redis is not believed that it is theirs.
func publicFailure(text string) string {
	switch text {
	case "", asynq.ErrLeaseExpired.Error(), context.DeadlineExceeded.Error(), context.Canceled.Error():
		return text
	}
	if r, ok := asynqjobs.ReasonOf(&asynq.TaskInfo{LastErr: text}); ok {
		switch r {
		case asynqjobs.ReasonNotSealed, asynqjobs.ReasonUnauthentic, asynqjobs.ReasonUnsupportedFormat,
			asynqjobs.ReasonKeyRemoved, asynqjobs.ReasonTooLarge, asynqjobs.ReasonGroup,
			asynqjobs.ReasonUnknownKey, asynqjobs.ReasonKeyServiceUnavailable, asynqjobs.ReasonOther:
			return "sealcache: refused: " + string(r)
		}
	}
	return withheld
}
