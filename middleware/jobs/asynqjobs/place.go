package asynqjobs

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"

	"github.com/hibiken/asynq"

	"github.com/sealcache/sealcache/middleware/jobs"
)

// A place is where a task is: what its payload is bound to beside its type.
type place struct {
	queue  string // empty: not bound (an aggregator was not told)
	id     string
	group  string // empty: in no group
	framed bool   // a frame is sealed, not the payload alone
}

// boundID is the id that what is sealed of a task at p is bound to. A member of a
// group is bound to the group, too, and a frame to being one: their ids are such as
// no other task can have.
func (p place) boundID() string {
	switch {
	case p.framed:
		return reservedID + "frame" + netstring(p.group) + p.id
	case p.group != "":
		return reservedID + "group" + netstring(p.group) + p.id
	default:
		return p.id
	}
}

// reservedID starts what boundID makes of ids. No task has an id that starts so: it
// would be bound as a member of a group of another id is.
const reservedID = "\x00"

// placeOf is where asynq says that the task of a handler's context is.
func placeOf(ctx context.Context) (place, bool) {
	id, ok1 := asynq.GetTaskID(ctx)
	queue, ok2 := asynq.GetQueueName(ctx)
	return place{queue: queue, id: id}, ok1 && ok2 && id != "" && queue != ""
}

// payloadHeader is the header of a unique task that holds, in base64, what stands in
// the payload of others. The payload of a unique one is its tag.
const payloadHeader = "sealcache-payload"

// carriesHeader is the header of a task that holds refused members of a group: values
// that may be sealed under other keys than the task names, and that who asks whether a
// key may be destroyed must know of without being able to open the task. Nothing is
// bound to it: who can remove it could remove the task.
const carriesHeader = "sealcache-carries"

// A claim follows the sealed value: asynq tells its aggregator, its recoverer and the
// RetryDelayFunc neither queue nor id, so the task carries them. What is claimed there
// is what the value was bound to, or it does not open. Where asynq does tell, the
// claim is not believed. It is not a header, because asynq's encoding of headers costs
// more time than sealing a small job does.
//
//	flags(1) netstring(queue) id [netstring(group)] length(2)
//
// where length is that of everything before it, and id is 16 bytes, if its text is a
// UUID's, or a netstring.
const (
	claimFrame = 1 << 0 // a frame was sealed
	claimGroup = 1 << 1 // a group follows
	claimUUID  = 1 << 2 // the id is 16 bytes
	claimFlags = claimFrame | claimGroup | claimUUID

	claimLengthSize = 2
	maxClaimBytes   = 1<<16 - 1
)

// claimSize is what appendClaim adds, or more.
func (p place) claimSize() int {
	const digits = 3 * 20
	return 1 + digits + len(p.queue) + len(p.id) + len(p.group) + claimLengthSize
}

// appendClaim appends the claim of p, whose claimSize is at most maxClaimBytes.
func (p place) appendClaim(dst []byte) []byte {
	n := len(dst)
	dst = append(dst, 0)
	var flags byte
	dst = appendNetstring(dst, p.queue)
	if u, ok := parseUUID(p.id); ok {
		flags |= claimUUID
		dst = append(dst, u[:]...)
	} else {
		dst = appendNetstring(dst, p.id)
	}
	if p.group != "" {
		flags |= claimGroup
		dst = appendNetstring(dst, p.group)
	}
	if p.framed {
		flags |= claimFrame
	}
	dst[n] = flags
	return binary.BigEndian.AppendUint16(dst, uint16(len(dst)-n))
}

var errClaim = fmt.Errorf("%w: the task does not say where it belongs", jobs.ErrUnauthentic)

// cutClaim parts a sealed value and the claim after it.
func cutClaim(b []byte) (value []byte, p place, err error) {
	n := len(b) - claimLengthSize
	if n < 0 {
		return nil, place{}, errClaim
	}
	start := n - int(binary.BigEndian.Uint16(b[n:]))
	if start < 0 || start == n || b[start]&^claimFlags != 0 {
		return nil, place{}, errClaim
	}
	flags, s := b[start], string(b[start+1:n])
	var ok bool
	if p.queue, s, ok = cutNetstring(s); !ok {
		return nil, place{}, errClaim
	}
	if flags&claimUUID != 0 {
		if len(s) < uuidSize {
			return nil, place{}, errClaim
		}
		p.id, s = formatUUID([uuidSize]byte([]byte(s[:uuidSize]))), s[uuidSize:]
	} else {
		if p.id, s, ok = cutNetstring(s); !ok || p.id == "" || strings.HasPrefix(p.id, reservedID) {
			return nil, place{}, errClaim
		}
		if _, is := parseUUID(p.id); is {
			return nil, place{}, errClaim // nobody writes it so
		}
	}
	if flags&claimGroup != 0 {
		if p.group, s, ok = cutNetstring(s); !ok || p.group == "" {
			return nil, place{}, errClaim
		}
	}
	if s != "" {
		return nil, place{}, errClaim
	}
	p.framed = flags&claimFrame != 0
	return b[:start:start], p, nil
}

// cutOwnClaim is cutClaim, if the claim is just that of p, framed or not; otherwise it
// returns nil. It makes no texts of what it need only compare.
func (p place) cutOwnClaim(b []byte) ([]byte, place) {
	var memory [128]byte
	p.framed = false
	own := p.appendClaim(memory[:0])
	start := len(b) - len(own)
	if start < 0 {
		return nil, place{}
	}
	p.framed = b[start]&claimFrame != 0
	if p.framed {
		own[0] |= claimFrame
	}
	if !bytes.Equal(b[start:], own) {
		return nil, place{}
	}
	return b[:start:start], p
}

// claimed reads the place that a task claims. A task in clear is jobs.ErrNotSealed.
func claimed(payload []byte, headers map[string]string) (place, error) {
	whole, _, err := wholePayload(payload, headers)
	if err != nil {
		return place{}, err
	}
	_, p, err := cutClaim(whole)
	return p, err
}

func netstring(s string) string { return strconv.Itoa(len(s)) + ":" + s }

func appendNetstring(dst []byte, s string) []byte {
	dst = append(strconv.AppendInt(dst, int64(len(s)), 10), ':')
	return append(dst, s...)
}

func cutNetstring(s string) (first, rest string, ok bool) {
	const maxDigits = 9
	length, _, ok := strings.Cut(s[:min(len(s), maxDigits+1)], ":")
	n, err := strconv.Atoi(length)
	rest = s[min(len(length)+1, len(s)):]
	if !ok || err != nil || n < 0 || n > len(rest) || strconv.Itoa(n) != length {
		return "", "", false
	}
	return rest[:n], rest[n:], true
}
