package asynqjobs

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/google/uuid"
	"github.com/hibiken/asynq"

	"github.com/sealcache/sealcache/middleware/internal/asynqwire"
	"github.com/sealcache/sealcache/middleware/internal/wire"
	"github.com/sealcache/sealcache/middleware/jobs"
)

// ErrAlreadySealed is the error of enqueueing a payload that is sealed already, as in asynq's recipe for moving a
// task, Enqueue(asynq.NewTask(info.Type, info.Payload)). If it were sealed again, the handler would get
// ciphertext. Enqueue the task that [OpenTask] returns. To run a task again as it is, use
// asynq.Inspector.RunTask.
var ErrAlreadySealed = errors.New("asynqjobs: the payload is already sealed (use the task that asynqjobs.OpenTask returns)")

// sealer makes sealed tasks of plaintext ones.
type sealer struct {
	e      *jobs.Encryptor
	hidden bool
	frames sync.Pool // of *[]byte: frames
	values sync.Pool // of *[]byte: sealed values
}

// maxPooledBytes bounds the buffers that are kept, so that one job of 100 MiB does not stay in memory.
const maxPooledBytes = 1 << 20

// sealAt seals f for typename at at, and appends the claim. If the frame holds only the payload, the payload is sealed
// without a frame and without a copy.
func (s *sealer) sealAt(ctx context.Context, typename string, at identity, f *frame) ([]byte, error) {
	if at.claimSize() > maxClaimBytes {
		return nil, fmt.Errorf("asynqjobs: %w: queue, id and group have more than %d bytes together", jobs.ErrTooLarge, maxClaimBytes)
	}
	var dst []byte
	if reused, ok := s.values.Get().(*[]byte); ok {
		dst = (*reused)[:0]
	}
	plain := f.payload
	if at.framed {
		buf := s.write(f)
		defer s.forget(buf)
		plain = *buf
	}
	sealed, err := s.e.SealTo(ctx, dst, jobs.Meta{Type: typename, Queue: at.queue, ID: at.boundID()}, plain)
	if err != nil {
		return nil, within("seal the task", err)
	}
	return at.appendClaim(sealed), nil
}

// write writes f into a buffer. Give the buffer to forget afterwards.
func (s *sealer) write(f *frame) *[]byte {
	buf, ok := s.frames.Get().(*[]byte)
	if !ok {
		buf = new([]byte)
	}
	if n := f.size(); cap(*buf) < n {
		*buf = make([]byte, 0, n)
	}
	*buf = f.append((*buf)[:0])
	return buf
}

func (s *sealer) forget(buf *[]byte) {
	clear(*buf) // it is plaintext
	if cap(*buf) <= maxPooledBytes {
		s.frames.Put(buf)
	}
}

// release takes back the buffers of a task that seal made. Nothing may use the task afterwards.
func (s *sealer) release(sealed *asynq.Task) {
	if b := sealed.Payload(); jobs.IsSealed(b) && !wire.IsTag(b) {
		s.keep(b)
	}
}

func (s *sealer) keep(b []byte) {
	if cap(b) <= maxPooledBytes {
		s.values.Put(&b)
	}
}

// checkTask refuses tasks that must not be enqueued, sealed or as plaintext. It returns all options of the task.
func checkTask(t *asynq.Task, opts []asynq.Option) ([]asynq.Option, taskOptions, error) {
	if t == nil {
		return nil, taskOptions{}, errors.New("asynqjobs: task cannot be nil")
	}
	if strings.TrimSpace(t.Type()) == "" {
		return nil, taskOptions{}, errors.New("asynqjobs: task typename cannot be empty")
	}
	if jobs.IsSealed(t.Payload()) {
		return nil, taskOptions{}, ErrAlreadySealed
	}
	for name := range t.Headers() {
		if strings.HasPrefix(name, asynqwire.ReservedHeaders) {
			return nil, taskOptions{}, fmt.Errorf("asynqjobs: header names that start with %q are reserved (choose another name)", asynqwire.ReservedHeaders)
		}
	}
	baked, err := bakedOptions(t)
	if err != nil {
		return nil, taskOptions{}, err
	}
	all := append(baked, opts...)
	c, err := parseOptions(all)
	if err != nil {
		return nil, taskOptions{}, err
	}
	switch {
	case !c.hasID:
	case strings.TrimSpace(c.id) == "":
		return nil, taskOptions{}, errors.New("asynqjobs: task ID cannot be empty")
	case strings.HasPrefix(c.id, reservedID):
		return nil, taskOptions{}, errors.New("asynqjobs: task ID cannot begin with a zero byte")
	}
	return all, c, nil
}

// seal returns t as it may be stored, with all its options. The last option is its id. seal does not change t or keep
// its payload. extra is added to the frame.
func (s *sealer) seal(ctx context.Context, t *asynq.Task, opts []asynq.Option, extra frame, unboundQueue bool) (*asynq.Task, []asynq.Option, error) {
	all, c, err := checkTask(t, opts)
	if err != nil {
		return nil, nil, err
	}
	if !c.hasID {
		c.id = uuid.NewString() // as asynq does
	}
	all = append(all, asynq.TaskID(c.id))
	if unboundQueue {
		c.queue = ""
	}

	f := extra
	f.headers, f.payload, f.unique = t.Headers(), t.Payload(), c.unique
	typename := t.Type()
	if s.hidden {
		f.name = typename
		if typename, err = s.pseudonym(typename); err != nil {
			return nil, nil, err
		}
	}
	if c.unique {
		if f.tag, err = s.e.Tokens().Token(asynqwire.UniqueDomain, uniqueParts(t.Type(), c.queue, t.Payload())...); err != nil {
			return nil, nil, fmt.Errorf("asynqjobs: cannot compute the token of the unique task (asynq.Unique): %w", err)
		}
	}
	c.framed = !f.bare()
	sealed, err := s.sealAt(ctx, typename, c.identity, &f)
	if err != nil {
		return nil, nil, err
	}
	var headers map[string]string
	if f.held != nil {
		headers = map[string]string{asynqwire.HeldMemberHeader: asynqwire.HeldMember}
	}
	if !c.unique {
		return asynq.NewTaskWithHeaders(typename, sealed, headers), all, nil
	}
	headers = map[string]string{asynqwire.PayloadHeader: base64.RawStdEncoding.EncodeToString(sealed)}
	s.keep(sealed)
	tag := wire.AppendTag(make([]byte, 0, wire.TagSize+3), f.tag)
	return asynq.NewTaskWithHeaders(typename, tag, headers), all, nil
}

func (s *sealer) pseudonym(typename string) (string, error) {
	token, err := s.e.Tokens().Token(asynqwire.TypeDomain, []byte(typename))
	if err != nil {
		return "", fmt.Errorf("asynqjobs: cannot compute the hidden type name of the task (WithHiddenTypes): %w", err)
	}
	return asynqwire.HiddenTypePrefix + token.String(), nil
}

// uniqueParts returns the parts by which asynq decides that a task is unique: type, queue and payload. asynq
// distinguishes a nil payload from an empty one.
func uniqueParts(typename, queue string, payload []byte) [][]byte {
	parts := [][]byte{[]byte(typename), []byte(queue)}
	if payload != nil {
		parts = append(parts, payload)
	}
	return parts
}
