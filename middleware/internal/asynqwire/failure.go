package asynqwire

import (
	"encoding/base64"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/sealcache/sealcache/middleware/internal/wire"
)

// Code is the stable name of the reason why a task was refused. Codes are part of the format: new ones may be added,
// but a code never changes. Explanations never change either, because ParseRefusal compares them.
type Code string

// The codes.
const (
	NotSealed             Code = "not_sealed"
	Unauthentic           Code = "unauthentic"
	UnsupportedFormat     Code = "unsupported_format"
	KeyRemoved            Code = "key_removed"
	TooLarge              Code = "too_large"
	UnknownKey            Code = "unknown_key"
	KeyServiceUnavailable Code = "key_service_unavailable"
	TooManyDataKeys       Code = "too_many_data_keys"
	Rewritten             Code = "rewritten"
	NoGroupClient         Code = "no_group_client"
	NoTaskContext         Code = "no_task_context"
	Other                 Code = "other"
)

// Explanation returns the meaning of a code. It is empty for a code that this release does not know.
func (c Code) Explanation() string {
	switch c {
	case NotSealed:
		return "the task is plaintext, but sealed tasks are expected"
	case Unauthentic:
		return "the task was altered, moved or sealed under another key"
	case UnsupportedFormat:
		return "a newer release sealed the task, or the task was cut off"
	case KeyRemoved:
		return "the task was sealed under a key that is disabled or destroyed"
	case TooLarge:
		return "the task is larger than jobs.WithMaxPayloadBytes allows"
	case UnknownKey:
		return "the task was sealed under a key that the keyset does not hold"
	case KeyServiceUnavailable:
		return "the key of the task could not be used at that time"
	case TooManyDataKeys:
		return "too many values waited for the key service to decrypt their data keys"
	case Rewritten:
		return "a worker older than asynq 0.26 has rewritten this task, and its sealed payload is gone"
	case NoGroupClient:
		return "the handler cannot put the task back into its group (give the handler WithGroupClient)"
	case NoTaskContext:
		return "the context of the handler does not come from an asynq.Server"
	case Other:
		return "the task could not be opened"
	default:
		return ""
	}
}

// A Refusal is the stored error text of a task that was not run. It holds nothing of the task.
type Refusal struct {
	Code Code
	// Key is the id of the key that is missing, if HasKey.
	Key    uint32
	HasKey bool
}

const (
	refusalStart  = "sealcache: refused ["
	withheldStart = "sealcache: error text withheld ["
	keyField      = " key="
	codeEnd       = "]"
	explanation   = ": "
)

// String returns the stored text: "sealcache: refused [code]: explanation", or "[code key=17]" with the id of a key.
func (r Refusal) String() string {
	key := ""
	if r.HasKey {
		key = keyField + strconv.FormatUint(uint64(r.Key), 10)
	}
	return refusalStart + string(r.Code) + key + codeEnd + explanation + r.Code.Explanation()
}

// ParseRefusal reads a text that Refusal.String wrote. It refuses any other text, so that an application's own text is
// never taken for a refusal because of how it starts.
func ParseRefusal(text string) (Refusal, bool) {
	rest, ok := strings.CutPrefix(text, refusalStart)
	if !ok {
		return Refusal{}, false
	}
	inner, _, _ := strings.Cut(rest, codeEnd)
	code, key, hasKey := strings.Cut(inner, keyField)
	r := Refusal{Code: Code(code), HasKey: hasKey}
	if hasKey {
		id, err := strconv.ParseUint(key, 10, 32)
		if err != nil {
			return Refusal{}, false
		}
		r.Key = uint32(id)
	}
	return r, r.Code.Explanation() != "" && r.String() == text
}

// WithheldFailure returns the text that is stored where the error text of an application could not be sealed.
func WithheldFailure(why Code) string { return withheldStart + string(why) + codeEnd }

func isWithheld(text string) bool {
	rest, ok := strings.CutPrefix(text, withheldStart)
	code, ok2 := strings.CutSuffix(rest, codeEnd)
	return ok && ok2 && Code(code).Explanation() != ""
}

// FailureKind classifies a task's stored error text.
type FailureKind int

const (
	// PlaintextFailure is a text that is not sealed and may be an application's.
	PlaintextFailure FailureKind = iota
	// NoFailure is an empty text.
	NoFailure
	// RefusedFailure is a Refusal.
	RefusedFailure
	// NoticeFailure is a constant text of asynq or asynqjobs.
	NoticeFailure
	// SealedFailure is a sealed text.
	SealedFailure
	// MalformedFailure starts like a sealed text but is not sealed.
	MalformedFailure
)

// Public reports whether a text of this kind is empty, or one of the constant texts of asynq and asynqjobs. It says nothing about
// the task.
func (k FailureKind) Public() bool {
	return k == NoFailure || k == RefusedFailure || k == NoticeFailure
}

// A Failure is a task's stored error text, parsed. Only the sealed part of the text is authenticated.
type Failure struct {
	Kind    FailureKind
	Refusal Refusal // of RefusedFailure
	Before  string  // of SealedFailure: the place of a panic, which asynq writes
	Sealed  []byte  // of SealedFailure
}

// sealedFailure starts a sealed error text. Unpadded base64 follows, to the end, because asynq stores error texts as UTF-8.
const sealedFailure = "sealcache:sealed:"

// SealedFailureText returns the stored form of a sealed error text.
func SealedFailureText(sealed []byte) string {
	return sealedFailure + base64.RawStdEncoding.EncodeToString(sealed)
}

// ParseFailure reads a stored error text.
func ParseFailure(text string) Failure {
	if text == "" {
		return Failure{Kind: NoFailure}
	}
	if r, ok := ParseRefusal(text); ok {
		return Failure{Kind: RefusedFailure, Refusal: r}
	}
	if isNotice(text) || isWithheld(text) {
		return Failure{Kind: NoticeFailure}
	}
	before, sealed, ok := CutSealedFailure(text)
	switch {
	case !ok || !isPanicPrefix(before):
		return Failure{Kind: PlaintextFailure}
	case sealed == nil:
		return Failure{Kind: MalformedFailure}
	default:
		return Failure{Kind: SealedFailure, Before: before, Sealed: sealed}
	}
}

// CutSealedFailure returns the sealed part of an error text and any text before it. If the part is not a sealed value,
// sealed is nil.
func CutSealedFailure(text string) (before string, sealed []byte, ok bool) {
	before, encoded, ok := strings.Cut(text, sealedFailure)
	sealed, err := base64.RawStdEncoding.Strict().DecodeString(encoded)
	if !ok || err != nil || !wire.IsSealed(sealed) || wire.IsTag(sealed) {
		sealed = nil
	}
	return before, sealed, ok
}

// isNotice reports whether text is one of the constant texts that asynq 0.26 stores by itself (processor.go, recoverer.go).
func isNotice(text string) bool {
	switch text {
	case "context canceled", "context deadline exceeded", "asynq: task lease expired", "handler not set":
		return true
	default:
		return false
	}
}

// Shorten cuts text between two characters if it has more bytes than limit, and says how many are missing.
func Shorten(text string, limit int) string {
	if len(text) <= limit {
		return text
	}
	n := limit
	for n > 0 && !utf8.RuneStart(text[n]) {
		n--
	}
	return fmt.Sprintf("%s... [%d bytes more]", text[:n], len(text)-n)
}

// Texts that asynq 0.26 writes before the text of a panic (processor.go, internal/errors).
const (
	panicCause    = "panic error cause by: "
	panicStart    = "panic ["
	panicEnd      = "]: "
	maxPanicPlace = 1000
)

// CutPanic removes from text the source position that asynq writes before the text of a panic. Other texts stay as
// they are.
func CutPanic(text string) string {
	rest, ok := strings.CutPrefix(text, panicCause)
	place, after, found := strings.Cut(strings.TrimPrefix(rest, panicStart), panicEnd)
	if !strings.HasPrefix(rest, panicStart) || !found || !isPlace(place) {
		return text
	}
	if ok {
		return panicCause + after
	}
	return after
}

// isPanicPrefix reports whether text is empty or what asynq writes before the text of a panic.
func isPanicPrefix(text string) bool {
	switch strings.TrimPrefix(CutPanic(text), panicCause) {
	case "", "panic: ":
		return true
	default:
		return false
	}
}

// placeForm matches the root of an absolute path (on Windows, two backslashes or a drive), the rest of a path of a file of Go or
// assembly, and the number of a line.
var placeForm = regexp.MustCompile(`^(/|\\\\|[A-Za-z]:[/\\])?([^]:]*\.(?:go|s)):([1-9][0-9]*)$`)

// isPlace reports whether s is the name of a file, a colon, and the number of a line. A directory of an absolute path may have
// almost any name. A relative path comes from a build with -trimpath, and its names are those of packages. Other characters in
// it are refused, because it may be an application's text.
func isPlace(s string) bool {
	if len(s) > maxPanicPlace {
		return false
	}
	m := placeForm.FindStringSubmatch(s)
	if m == nil {
		return false
	}
	root, path, line := m[1], m[2], m[3]
	strange := notInPackagePath
	if root != "" {
		strange = notPrintable
	}
	_, err := strconv.ParseUint(line, 10, 31)
	return err == nil && !strings.ContainsFunc(path, strange)
}

func notPrintable(r rune) bool { return !unicode.IsPrint(r) || r == utf8.RuneError }

func notInPackagePath(r rune) bool {
	return !unicode.IsLetter(r) && !unicode.IsDigit(r) && !strings.ContainsRune(`/\._-+@~!`, r)
}
