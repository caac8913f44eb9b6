package asynqwire

import (
	"encoding/base64"
	"errors"
	"fmt"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/middleware/internal/wire"
)

// ErrRewritten means that a unique task has lost its headers, and with them its sealed payload. Workers older than asynq
// 0.26 do not know headers: when they retry a task or put it back, they write it without headers.
var ErrRewritten = errors.New("a worker with asynq before 0.26 removed the sealed payload (delete the task, enqueue the job again)")

// SealedPayload returns the sealed value of a task, with the claim that follows it. tagged reports whether the payload
// is a unique tag, and the value came from the header. A plaintext task is wire.ErrNotSealed.
func SealedPayload(payload []byte, headers map[string]string) (value []byte, tagged bool, err error) {
	if !wire.IsSealed(payload) {
		return nil, false, wire.ErrNotSealed
	}
	text, hasHeader := headers[PayloadHeader]
	tagged = wire.IsTag(payload)
	switch {
	case tagged && !hasHeader:
		return nil, true, ErrRewritten
	case tagged != hasHeader:
		return nil, tagged, fmt.Errorf("%w: the payload of the task was sealed with other headers than the task has", aead.ErrUnauthentic)
	case tagged:
		if payload, err = base64.RawStdEncoding.Strict().DecodeString(text); err != nil || !wire.IsSealed(payload) || wire.IsTag(payload) {
			return nil, true, fmt.Errorf("%w: the header %q of the task does not hold a sealed value", aead.ErrUnauthentic, PayloadHeader)
		}
	}
	// A claim of another version may have another form.
	if _, _, err = wire.Parse(payload); err != nil {
		return nil, tagged, err
	}
	return payload, tagged, nil
}
