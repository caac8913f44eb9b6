package sessions

import (
	"encoding/binary"
	"math"
	"time"
)

// A record is the sealed content of a session: a version, the absolute end in Unix milliseconds, and the session as
// the framework encoded it. The idle end is the sealed expiry of the entry. FORMAT.md, "Sessions", specifies the
// record.
type record struct {
	absolute time.Time
	data     []byte
}

const (
	recordVersion = 1
	recordHeader  = 1 + 8
)

func (r record) encode() []byte {
	b := make([]byte, 0, recordHeader+len(r.data))
	b = append(b, recordVersion)
	b = binary.BigEndian.AppendUint64(b, uint64(max(r.absolute.UnixMilli(), 0)))
	return append(b, r.data...)
}

// decode returns the record in b, whose memory it shares. It reports whether there is one of this version.
func decode(b []byte) (record, bool) {
	if len(b) < recordHeader || b[0] != recordVersion {
		return record{}, false
	}
	ms := binary.BigEndian.Uint64(b[1:])
	if ms > math.MaxInt64 { // no writer has such an end
		return record{}, false
	}
	return record{time.UnixMilli(int64(ms)), b[recordHeader:]}, true
}
