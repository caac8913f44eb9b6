package asynqjobs

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"

	"github.com/google/uuid"
	"github.com/hibiken/asynq"

	"github.com/sealcache/sealcache/middleware/internal/asynqwire"
	"github.com/sealcache/sealcache/middleware/jobs"
)

// An identity is the context to which the sealed payload of a task is bound, besides its type.
type identity struct {
	queue  string // empty: not bound, because an aggregator does not know it
	id     string
	group  string // empty: in no group
	framed bool   // a frame is sealed, not the payload alone
}

// boundID returns the id that the sealed payload is bound to. It differs from every task's id for members of groups
// and for frames, so that they do not open as each other.
func (i identity) boundID() string {
	switch {
	case i.framed:
		return reservedID + "frame" + netstring(i.group) + i.id
	case i.group != "":
		return reservedID + "group" + netstring(i.group) + i.id
	default:
		return i.id
	}
}

// reservedID starts the ids that boundID makes. Tasks with such an id are refused: they would be bound like a member of a
// group with another id.
const reservedID = "\x00"

// identityOf returns the identity that asynq has put into a handler's context.
func identityOf(ctx context.Context) (identity, bool) {
	id, ok1 := asynq.GetTaskID(ctx)
	queue, ok2 := asynq.GetQueueName(ctx)
	return identity{queue: queue, id: id}, ok1 && ok2 && id != "" && queue != ""
}

// A claim follows the sealed value, because asynq passes neither queue nor id to its aggregator, its recoverer and
// the RetryDelayFunc. The claim is not authenticated, but the value opens only if the claim is true. If asynq passes
// queue and id, the claim is not used. It is not a header, because asynq encodes headers more slowly than a small
// job is sealed.
//
//	flags(1) netstring(queue) id [netstring(group)] length(2)
//
// The length is that of everything before it. The id is 16 bytes if its text is a UUID's, and a netstring otherwise.
const (
	claimFrame = 1 << 0 // a frame was sealed
	claimGroup = 1 << 1 // a group follows
	claimUUID  = 1 << 2 // the id is 16 bytes
	claimFlags = claimFrame | claimGroup | claimUUID

	claimLengthSize = 2
	maxClaimBytes   = 1<<16 - 1
)

// claimSize is an upper bound of what appendClaim adds.
func (i identity) claimSize() int {
	const digits = 3 * 20
	return 1 + digits + len(i.queue) + len(i.id) + len(i.group) + claimLengthSize
}

// appendClaim appends the claim of i, whose claimSize is at most maxClaimBytes.
func (i identity) appendClaim(dst []byte) []byte {
	n := len(dst)
	dst = append(dst, 0)
	var flags byte
	dst = appendNetstring(dst, i.queue)
	if u, ok := parseUUID(i.id); ok {
		flags |= claimUUID
		dst = append(dst, u[:]...)
	} else {
		dst = appendNetstring(dst, i.id)
	}
	if i.group != "" {
		flags |= claimGroup
		dst = appendNetstring(dst, i.group)
	}
	if i.framed {
		flags |= claimFrame
	}
	dst[n] = flags
	return binary.BigEndian.AppendUint16(dst, uint16(len(dst)-n))
}

var errClaim = fmt.Errorf("%w: the task was altered, or was not enqueued with asynqjobs.Client", jobs.ErrUnauthentic)

// cutClaim separates a sealed value from the claim after it.
func cutClaim(b []byte) (value []byte, i identity, err error) {
	n := len(b) - claimLengthSize
	if n < 0 {
		return nil, identity{}, errClaim
	}
	start := n - int(binary.BigEndian.Uint16(b[n:]))
	if start < 0 || start == n || b[start]&^claimFlags != 0 {
		return nil, identity{}, errClaim
	}
	i, ok := parseClaim(b[start], string(b[start+1:n]))
	if !ok {
		return nil, identity{}, errClaim
	}
	return b[:start:start], i, nil
}

// parseClaim reads a claim without its length. It accepts only what appendClaim writes.
func parseClaim(flags byte, s string) (i identity, ok bool) {
	i.framed = flags&claimFrame != 0
	if i.queue, s, ok = cutNetstring(s); !ok {
		return identity{}, false
	}
	if flags&claimUUID != 0 {
		const size = len(uuid.UUID{})
		if len(s) < size {
			return identity{}, false
		}
		i.id, s = uuid.UUID([]byte(s[:size])).String(), s[size:]
	} else {
		if i.id, s, ok = cutNetstring(s); !ok || i.id == "" || strings.HasPrefix(i.id, reservedID) {
			return identity{}, false
		}
		if _, isUUID := parseUUID(i.id); isUUID {
			return identity{}, false
		}
	}
	if flags&claimGroup != 0 {
		if i.group, s, ok = cutNetstring(s); !ok || i.group == "" {
			return identity{}, false
		}
	}
	return i, s == ""
}

// parseUUID reads the only text that uuid.UUID.String writes. uuid.Parse also accepts upper case and texts of other lengths.
// Then two ids would have the same claim.
func parseUUID(s string) (uuid.UUID, bool) {
	const textLength = 36
	if len(s) != textLength || strings.ContainsAny(s, "ABCDEF") {
		return uuid.UUID{}, false
	}
	u, err := uuid.Parse(s)
	return u, err == nil
}

// cutOwnClaim is cutClaim for a claim of exactly the identity i, framed or not. It returns nil for any other claim. It
// compares bytes, and so allocates nothing.
func (i identity) cutOwnClaim(b []byte) ([]byte, identity) {
	var memory [128]byte
	i.framed = false
	own := i.appendClaim(memory[:0])
	start := len(b) - len(own)
	if start < 0 {
		return nil, identity{}
	}
	i.framed = b[start]&claimFrame != 0
	if i.framed {
		own[0] |= claimFrame
	}
	if !bytes.Equal(b[start:], own) {
		return nil, identity{}
	}
	return b[:start:start], i
}

// claimOf returns the identity that a task claims. A plaintext task is jobs.ErrNotSealed.
func claimOf(payload []byte, headers map[string]string) (identity, error) {
	whole, _, err := asynqwire.SealedPayload(payload, headers)
	if err != nil {
		return identity{}, err
	}
	_, i, err := cutClaim(whole)
	return i, err
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
