package asynqjobs

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/hibiken/asynq"

	"github.com/sealcache/sealcache/middleware/internal/wire"
	"github.com/sealcache/sealcache/middleware/jobs"
)

// The domains of this package's tokens.
const (
	uniqueDomain   = "asynqjobs.unique"
	typeDomain     = "asynqjobs.type"
	scheduleDomain = "asynqjobs.schedule"
)

// hiddenPrefix starts the pseudonym of a type name.
const hiddenPrefix = "sealed:"

// sealer makes sealed tasks of clear ones.
type sealer struct {
	e      *jobs.Encryptor
	hidden bool
	frames sync.Pool // of *[]byte: what frames are written into
	values sync.Pool // of *[]byte: what they are sealed into
}

// maxPooledBytes bounds the buffers that are kept: one job of 100 MiB must not pin
// them.
const maxPooledBytes = 1 << 20

// sealAt seals f for typename at p, and appends the claim of p. A frame that holds
// nothing but the payload is not written: the payload is sealed as it is, without
// being copied.
func (s *sealer) sealAt(ctx context.Context, typename string, p place, f *frame) ([]byte, error) {
	if p.claimSize() > maxClaimBytes {
		return nil, fmt.Errorf("asynqjobs: %w: queue, id and group of more than %d bytes together", jobs.ErrTooLarge, maxClaimBytes)
	}
	var dst []byte
	if reused, ok := s.values.Get().(*[]byte); ok {
		dst = (*reused)[:0]
	}
	plain := f.payload
	if p.framed {
		buf := s.write(f)
		defer s.forget(buf)
		plain = *buf
	}
	sealed, err := s.e.SealTo(ctx, dst, jobs.Meta{Type: typename, Queue: p.queue, ID: p.boundID()}, plain)
	if err != nil {
		return nil, fmt.Errorf("asynqjobs: %w", err)
	}
	return p.appendClaim(sealed), nil
}

// write writes f into a buffer that is to be given to forget.
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
	clear(*buf) // it is in clear
	if cap(*buf) <= maxPooledBytes {
		s.frames.Put(buf)
	}
}

// release gives back what seal made, of which nothing may be in use any more.
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

// seal returns t as it may be stored, with all its options, the last of which is
// its id. It neither changes t nor keeps its payload. extra is added to the frame.
func (s *sealer) seal(ctx context.Context, t *asynq.Task, opts []asynq.Option, extra frame, unboundQueue bool) (*asynq.Task, []asynq.Option, error) {
	if t == nil {
		return nil, nil, errors.New("asynqjobs: task cannot be nil")
	}
	if strings.TrimSpace(t.Type()) == "" {
		return nil, nil, errors.New("asynqjobs: task typename cannot be empty")
	}
	baked, err := bakedOptions(t)
	if err != nil {
		return nil, nil, err
	}
	all := append(baked, opts...)
	c, err := choose(all)
	if err != nil {
		return nil, nil, err
	}
	switch {
	case !c.hasID:
		c.id = newID()
	case strings.TrimSpace(c.id) == "":
		return nil, nil, errors.New("asynqjobs: task ID cannot be empty")
	case strings.HasPrefix(c.id, reservedID):
		return nil, nil, errors.New("asynqjobs: task ID begins with reserved bytes")
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
		if f.tag, err = s.e.Tokens().Token(uniqueDomain, uniqueParts(t.Type(), c.queue, t.Payload())...); err != nil {
			return nil, nil, fmt.Errorf("asynqjobs: unique task: %w", err)
		}
	}
	c.framed = !f.bare()
	sealed, err := s.sealAt(ctx, typename, c.place, &f)
	if err != nil {
		return nil, nil, err
	}
	var headers map[string]string
	if len(f.refused) > 0 {
		headers = map[string]string{carriesHeader: "1"}
	}
	if !c.unique {
		return asynq.NewTaskWithHeaders(typename, sealed, headers), all, nil
	}
	if headers == nil {
		headers = make(map[string]string, 1)
	}
	headers[payloadHeader] = base64.RawStdEncoding.EncodeToString(sealed)
	s.keep(sealed)
	tag := wire.AppendTag(make([]byte, 0, wire.TagSize+3), f.tag)
	return asynq.NewTaskWithHeaders(typename, tag, headers), all, nil
}

func (s *sealer) pseudonym(typename string) (string, error) {
	token, err := s.e.Tokens().Token(typeDomain, []byte(typename))
	if err != nil {
		return "", fmt.Errorf("asynqjobs: hidden type name: %w", err)
	}
	return hiddenPrefix + token.String(), nil
}

// uniqueParts is what makes a task unique to asynq: type, queue and payload, of
// which it tells nil from empty.
func uniqueParts(typename, queue string, payload []byte) [][]byte {
	parts := [][]byte{[]byte(typename), []byte(queue)}
	if payload != nil {
		parts = append(parts, payload)
	}
	return parts
}
