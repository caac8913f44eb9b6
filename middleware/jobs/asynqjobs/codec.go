package asynqjobs

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/sealcache/sealcache/internal/nilcheck"
)

// A Codec turns arguments or results into bytes and back. It must be safe for concurrent use. Encode is called before a value
// is sealed, and Decode after it has been opened. Decode gets bytes that this package has authenticated, except while
// plaintext is accepted. The texts of its errors are not passed on, because they may quote a value.
type Codec[T any] interface {
	Encode(value T) ([]byte, error)
	Decode(b []byte) (T, error)
}

// ErrCodec is the error of a Codec that failed. For a job's arguments it archives the task.
var ErrCodec = errors.New("asynqjobs: the codec failed")

// JSON returns the codec that encoding/json implements. It is the default of Define.
func JSON[T any]() Codec[T] { return jsonCodec[T]{} }

type jsonCodec[T any] struct{}

func (jsonCodec[T]) Encode(value T) ([]byte, error) { return json.Marshal(value) }

func (jsonCodec[T]) Decode(b []byte) (value T, err error) {
	err = json.Unmarshal(b, &value)
	return value, err
}

// errNilCodec is an error only when the codec is used, because a definition returns no error.
var errNilCodec = fmt.Errorf("%w: the codec is a nil pointer", ErrCodec)

// encode and decode turn every failure of a codec, panics included, into an ErrCodec.

func encode[T any](c Codec[T], value T) (b []byte, err error) {
	if nilcheck.IsNil(c) {
		return nil, errNilCodec
	}
	defer recoverCodec[T](&err)
	if b, err = c.Encode(value); err != nil {
		return nil, codecError[T]("encode", err)
	}
	return b, nil
}

func decode[T any](c Codec[T], b []byte) (value T, err error) {
	if nilcheck.IsNil(c) {
		return value, errNilCodec
	}
	defer recoverCodec[T](&err)
	if value, err = c.Decode(b); err != nil {
		var zero T
		return zero, codecError[T]("decode", err)
	}
	return value, nil
}

func recoverCodec[T any](err *error) {
	if x := recover(); x != nil {
		*err = fmt.Errorf("%w: the codec panicked on a value of type %T", ErrCodec, *new(T))
	}
}

// codecError hides the text of a codec's error. errors.Is and errors.As still find the error.
func codecError[T any](action string, cause error) error {
	return &hiddenCause{text: fmt.Sprintf("%v: cannot %s a value of type %T", ErrCodec, action, *new(T)), causes: []error{ErrCodec, cause}}
}

// within puts an action before the text of an error of this package, which then has its prefix only once. The action also replaces
// that of package jobs, which seals or opens a value for it.
func within(action string, err error) error {
	lines := strings.Split(strings.TrimPrefix(err.Error(), "asynqjobs: "), "\n")
	for i, line := range lines {
		lines[i] = strings.TrimPrefix(strings.TrimPrefix(line, "jobs: seal the value: "), "jobs: open the value: ")
	}
	return &hiddenCause{text: "asynqjobs: " + action + ": " + strings.Join(lines, "\n"), causes: []error{err}}
}

type hiddenCause struct {
	text   string
	causes []error
}

func (h *hiddenCause) Error() string   { return h.text }
func (h *hiddenCause) Unwrap() []error { return h.causes }
