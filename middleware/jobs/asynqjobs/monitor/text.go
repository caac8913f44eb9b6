package monitor

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/hibiken/asynq"

	"github.com/sealcache/sealcache/middleware/jobs"
	"github.com/sealcache/sealcache/middleware/jobs/asynqjobs"
)

// These texts replace contents that are not shown.
const (
	withheld    = "[withheld]"
	gone        = "[the task is gone]"
	notRead     = "[not read: Redis does not answer]"
	tooMany     = "[not opened: too many tasks on one page]"
	tooLarge    = "[not opened: too large for this page]"
	notSealed   = "[not sealed] "
	unformatted = "[cannot be formatted]"
)

// why returns the reason why a value does not open, in a text that quotes nothing.
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

// cut shortens text between two characters.
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

// sealedText starts the sealed text of an error, as asynqjobs stores it.
const sealedText = "sealcache:sealed:"

// isPanicPrefix reports whether text is empty, or is what asynq puts before the text of a
// panic: the word, and a place in Go source, which holds no blanks.
func isPanicPrefix(text string) bool {
	const cause, start, end = "panic error cause by: ", "panic", ": "
	if text == "" {
		return true
	}
	rest, ok := strings.CutPrefix(strings.TrimPrefix(text, cause), start)
	if !ok {
		return false
	}
	if rest, ok = strings.CutSuffix(rest, end); !ok || rest == "" {
		return ok
	}
	place, ok1 := strings.CutPrefix(rest, " [")
	place, ok2 := strings.CutSuffix(place, "]")
	file, line, ok3 := strings.Cut(place, ".go:")
	return ok1 && ok2 && ok3 && !strings.ContainsFunc(line, func(r rune) bool { return r < '0' || r > '9' }) &&
		!strings.ContainsFunc(file, func(r rune) bool {
			return !unicode.IsLetter(r) && !unicode.IsDigit(r) && !strings.ContainsRune(`/\:._-+@~`, r)
		})
}

// publicFailure returns what viewers without payloads may see of an error text: the exact
// texts of asynq and asynqjobs, which hold nothing of the job. Other texts are withheld,
// because an attacker may have written them.
func publicFailure(text string) string {
	switch text {
	case "", asynq.ErrLeaseExpired.Error(), context.DeadlineExceeded.Error(), context.Canceled.Error():
		return text
	}
	if _, ok := asynqjobs.ReasonOf(&asynq.TaskInfo{LastErr: text}); ok {
		return text // ReasonOf accepts exact texts only
	}
	return withheld
}
