package monitor

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/sealcache/sealcache/middleware/internal/asynqwire"
	"github.com/sealcache/sealcache/middleware/internal/box"
	"github.com/sealcache/sealcache/middleware/jobs"
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
	if box.Refused(err) {
		switch {
		case !errors.Is(err, jobs.ErrUnknownKey):
			return "[not opened: altered, moved, or sealed under another key]"
		case box.Final(err):
			return "[not opened: its key is disabled or destroyed]"
		default:
			return "[not opened: sealed under a key that is not in the keyset]"
		}
	}
	switch box.Outcome(err) {
	case "key_service_unavailable", "canceled", "unauthentic", "unknown_key": // the last two only with a broken connection
		return "[not opened: the key service does not answer]"
	case "unsupported_format":
		return "[not opened: unknown format, or cut off]"
	case "too_large":
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

// publicFailure returns the part of an error text that viewers without payloads may see: the exact texts of asynq and asynqjobs,
// which say nothing about the job. Other texts are withheld, because an attacker may have written them.
func publicFailure(text string) string {
	if asynqwire.ParseFailure(text).Kind.Public() {
		return text
	}
	return withheld
}
