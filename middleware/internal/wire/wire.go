// Package wire defines the format of sealed (encrypted) values. A sealed value is a header and a ciphertext. Package box
// encrypts and decrypts; this package only writes and reads bytes.
//
// [Header.Append] writes headers, and [Parse] reads them. [AppendContext] and [AppendName] build the associated data.
// Associated data is not stored, but a value decrypts only with the same associated data. Associated data contains the
// namespace, the kind, the names (such as the cache key) and the header of the value. [KeyOf] returns how a ciphertext
// names its encryption key, such as by the id of the key.
//
// FORMAT.md specifies every byte, and middleware/testdata/vectors.json holds test vectors.
package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"
)

// The fixed bytes of a header, version 1.
const (
	// First starts no UTF-8 text (RFC 3629 never uses it), no JSON text (RFC
	// 8259) and no msgpack value (its specification says "never used"). So the
	// first bytes tell a sealed value from plaintext.
	First byte = 0xC1
	// Magic follows First.
	Magic byte = 0x5C
	// Version is the only version this package reads and writes.
	Version byte = 1

	// HeaderSize is the length of a header without optional fields.
	HeaderSize = 6
	// MaxHeaderSize bounds the length of any header that Parse accepts.
	MaxHeaderSize = HeaderSize + endSize + prfKeySize

	endSize    = 8
	prfKeySize = 4
)

// Kind is the purpose of a sealed value. It is part of the header and of the associated data, so that a value
// of one kind never opens as another.
type Kind byte

// The kinds of version 1. Their numbers are part of the format.
const (
	CacheValue Kind = 1 // a value of a cache
	JobPayload Kind = 2 // the payload of a background job
	JobResult  Kind = 3 // the result of a background job
	JobFailure Kind = 4 // the error text of a background job
	Schedule   Kind = 5 // a periodic job's definition
	// KeyName is the domain of the pseudonyms of hidden names. It is never in a
	// header.
	KeyName Kind = 6
	// KeyCheck is the entry by which the processes of a namespace compare keys.
	KeyCheck Kind = 7
)

func (k Kind) String() string {
	switch k {
	case CacheValue:
		return "cache value"
	case JobPayload:
		return "job payload"
	case JobResult:
		return "job result"
	case JobFailure:
		return "job failure"
	case Schedule:
		return "schedule"
	case KeyName:
		return "key name"
	case KeyCheck:
		return "key check"
	default:
		return fmt.Sprintf("kind %d", byte(k))
	}
}

// job reports whether values of the kind belong to jobs.
func (k Kind) job() bool { return k >= JobPayload && k <= Schedule }

// Type is how the plaintext represents a value. Each predeclared type of Go has one,
// so that values come back with the type that they were set with.
type Type byte

// The types of version 1. Their numbers are part of the format.
const (
	Bytes   Type = 1
	String  Type = 2
	Bool    Type = 3 // one byte, 0 or 1
	Int     Type = 4 // 8 bytes, big endian, two's complement
	Int8    Type = 5
	Int16   Type = 6
	Int32   Type = 7
	Int64   Type = 8
	Uint    Type = 9 // 8 bytes, big endian
	Uint8   Type = 10
	Uint16  Type = 11
	Uint32  Type = 12
	Uint64  Type = 13
	Uintptr Type = 14 // 8 bytes, big endian
	Float32 Type = 15 // 4 bytes, IEEE 754, big endian
	Float64 Type = 16 // 8 bytes, IEEE 754, big endian

	JSON     Type = 0x20
	MsgPack  Type = 0x21
	Protobuf Type = 0x22

	// Types from Custom to CustomLast belong to applications' own codecs.
	Custom     Type = 0x40
	CustomLast Type = 0x7F
)

func (t Type) valid() bool {
	return t >= Bytes && t <= Float64 || t.Codec()
}

// Codec reports whether a codec writes and reads values of this type.
func (t Type) Codec() bool {
	return t >= JSON && t <= Protobuf || t >= Custom && t <= CustomLast
}

// Width returns the length of a plaintext of this type in bytes, or 0 if the length is not fixed.
func (t Type) Width() int {
	switch t {
	case Bool, Int8, Uint8:
		return 1
	case Int16, Uint16:
		return 2
	case Int32, Uint32, Float32:
		return 4
	case Int, Int64, Uint, Uint64, Uintptr, Float64:
		return 8
	default:
		return 0
	}
}

var typeNames = [...]string{ //nolint:gochecknoglobals // a table
	Bytes: "[]byte", String: "string", Bool: "bool",
	Int: "int", Int8: "int8", Int16: "int16", Int32: "int32", Int64: "int64",
	Uint: "uint", Uint8: "uint8", Uint16: "uint16", Uint32: "uint32", Uint64: "uint64", Uintptr: "uintptr",
	Float32: "float32", Float64: "float64",
	JSON: "json", MsgPack: "msgpack", Protobuf: "protobuf",
}

// Compressible reports whether values of this type may be compressed. Numbers have a
// fixed length.
func (t Type) Compressible() bool { return t == Bytes || t == String || t.Codec() }

func (t Type) String() string {
	if int(t) < len(typeNames) && typeNames[t] != "" {
		return typeNames[t]
	}
	return fmt.Sprintf("type %#02x", byte(t))
}

// Flags announce optional fields and transformations.
type Flags byte

// The flags of version 1.
const (
	// Compressed reports whether the value is compressed.
	Compressed Flags = 1 << 0
	// Expires announces eight bytes: the end of the value's life.
	Expires Flags = 1 << 1
	// Padded reports whether the plaintext ends with padding.
	Padded Flags = 1 << 2
	// Bound announces one byte: the names of a job that the associated data
	// holds.
	Bound Flags = 1 << 3
	// Hidden announces four bytes: the id of the PRF key that made the entry's name,
	// a pseudonym.
	Hidden Flags = 1 << 4
	// Named reports whether the plaintext starts with the key for which the pseudonym stands.
	Named Flags = 1 << 5
	// Tagged reports whether the plaintext names the entry's tags.
	Tagged Flags = 1 << 6

	ofCacheValues = Compressed | Expires | Padded | Hidden | Named | Tagged
	ofJobs        = Compressed | Bound
	known         = ofCacheValues | ofJobs
)

// Header is the part before the ciphertext. It is authenticated and not encrypted.
type Header struct {
	Kind  Kind
	Type  Type
	Flags Flags
	End   int64 // only with Expires: Unix milliseconds, over 0
	Names Names // only with Bound
	// PRFKey is the id of the PRF key that hides the name, only with Hidden. It shows an audit whether that key
	// still has entries, also under WithOneWayKeys.
	PRFKey uint32
}

// ClockTolerance is how long after its sealed end a value is still good, because the
// clocks of two processes differ.
const ClockTolerance = 5 * time.Second

// Expired reports whether the value's sealed end, if it has one, has passed.
func (h Header) Expired(now time.Time) bool {
	return h.Flags&Expires != 0 && now.After(time.UnixMilli(h.End).Add(ClockTolerance))
}

// Names is the set of a job's names that are bound.
type Names byte

// The names that a job's associated data may hold.
const (
	BoundType  Names = 1 << 0
	BoundQueue Names = 1 << 1
	BoundID    Names = 1 << 2

	knownNames = BoundType | BoundQueue | BoundID
)

// ErrNotSealed and ErrUnsupportedFormat are the errors of bytes that are not a
// sealed value which this package can read. ErrTooLarge is the error of values over
// a configured bound. Packages middleware and middleware/jobs export them.
var (
	ErrNotSealed         = errors.New("sealcache: the value is not sealed")
	ErrUnsupportedFormat = errors.New("sealcache: unsupported format")
	ErrTooLarge          = errors.New("sealcache: the value is too large")
)

// Tag is in place of the version in a keyed tag: First, Magic, Tag, then TagSize
// bytes of a pseudorandom function. A tag replaces a sealed value where equal
// values must be equal bytes, as in the payload that a queue compares to keep tasks
// unique. It starts like a sealed value, so that it is never taken for plaintext,
// and it never opens.
const Tag byte = 0xFF

// TagSize is the length of a tag after its first three bytes.
const TagSize = 32

// IsTag reports whether b has the form of a keyed tag.
func IsTag(b []byte) bool {
	return IsSealed(b) && len(b) == 3+TagSize && b[2] == Tag
}

// AppendTag appends the tag that prf makes to dst.
func AppendTag(dst []byte, prf [TagSize]byte) []byte {
	return append(append(dst, First, Magic, Tag), prf[:]...)
}

// IsSealed reports whether b claims to be sealed. It looks at the first two bytes,
// with which no text, JSON or msgpack starts.
func IsSealed(b []byte) bool {
	return len(b) >= 2 && b[0] == First && b[1] == Magic
}

// Size is the number of bytes that Append writes.
func (h Header) Size() int {
	n := HeaderSize
	if h.Flags&Expires != 0 {
		n += endSize
	}
	if h.Flags&Bound != 0 {
		n++
	}
	if h.Flags&Hidden != 0 {
		n += prfKeySize
	}
	return n
}

// Append appends the header to dst.
func (h Header) Append(dst []byte) []byte {
	dst = append(dst, First, Magic, Version, byte(h.Kind), byte(h.Type), byte(h.Flags))
	if h.Flags&Expires != 0 {
		dst = binary.BigEndian.AppendUint64(dst, uint64(h.End))
	}
	if h.Flags&Bound != 0 {
		dst = append(dst, byte(h.Names))
	}
	if h.Flags&Hidden != 0 {
		dst = binary.BigEndian.AppendUint32(dst, h.PRFKey)
	}
	return dst
}

// Parse returns the header that b starts with, and its length. The rest of b is the
// AEAD's ciphertext, of at least one byte. Parse refuses what Append would not have
// written. The errors are ErrNotSealed, if b does not claim to be sealed, and
// ErrUnsupportedFormat.
func Parse(b []byte) (Header, int, error) {
	if !IsSealed(b) {
		return Header{}, 0, ErrNotSealed
	}
	if len(b) < 3 {
		return Header{}, 0, fmt.Errorf("%w: the value was cut off after %d bytes, within its header (delete the value)", ErrUnsupportedFormat, len(b))
	}
	if b[2] == Tag {
		return Header{}, 0, fmt.Errorf("%w: the bytes are the lock token of a unique asynq job (open its task with asynqjobs.OpenTask)", ErrUnsupportedFormat)
	}
	if b[2] != Version {
		return Header{}, 0, fmt.Errorf("%w: the format version is %d (this release reads version %d)", ErrUnsupportedFormat, b[2], Version)
	}
	if len(b) < HeaderSize {
		return Header{}, 0, fmt.Errorf("%w: the value was cut off after %d bytes, within its header (delete the value)", ErrUnsupportedFormat, len(b))
	}
	h := Header{Kind: Kind(b[3]), Type: Type(b[4]), Flags: Flags(b[5])}
	if h.Kind < CacheValue || h.Kind > KeyCheck || h.Kind == KeyName {
		return Header{}, 0, fmt.Errorf("%w: the header has the unknown kind %d (update sealcache)", ErrUnsupportedFormat, b[3])
	}
	if !h.Type.valid() {
		return Header{}, 0, fmt.Errorf("%w: the header has the unknown value type %#02x (update sealcache)", ErrUnsupportedFormat, b[4])
	}
	if err := h.checkFlags(); err != nil {
		return Header{}, 0, err
	}
	n := h.Size()
	if len(b) < n {
		return Header{}, 0, fmt.Errorf("%w: the value was cut off after %d bytes, within its header (delete the value)", ErrUnsupportedFormat, len(b))
	}
	if err := h.readFields(b[HeaderSize:n]); err != nil {
		return Header{}, 0, err
	}
	if len(b) == n {
		return Header{}, 0, fmt.Errorf("%w: the value was cut off after its header (delete the value)", ErrUnsupportedFormat)
	}
	return h, n, nil
}

// checkFlags returns an error for flags that this release does not know, or that the kind and type do not have.
func (h Header) checkFlags() error {
	if unknown := h.Flags &^ known; unknown != 0 {
		return fmt.Errorf("%w: the header has the unknown flags %#02x (update sealcache)", ErrUnsupportedFormat, byte(unknown))
	}
	var has Flags
	switch {
	case h.Kind == CacheValue:
		has = ofCacheValues
	case h.Kind.job():
		has = ofJobs
	}
	if extra := h.Flags &^ has; extra != 0 {
		return fmt.Errorf("%w: the header of a %s has the unknown flags %#02x (update sealcache)", ErrUnsupportedFormat, h.Kind, byte(extra))
	}
	if h.Flags&Compressed != 0 && !h.Type.Compressible() {
		return fmt.Errorf("%w: the value is marked as compressed, but its type is %s (delete the value)", ErrUnsupportedFormat, h.Type)
	}
	if h.Flags&Named != 0 && h.Flags&Hidden == 0 {
		return fmt.Errorf("%w: the header has the flag of a sealed cache key, but not of a hidden name (delete the value)", ErrUnsupportedFormat)
	}
	return nil
}

// readFields reads the fields that the flags announce.
func (h *Header) readFields(b []byte) error {
	if h.Flags&Expires != 0 {
		if h.End = int64(binary.BigEndian.Uint64(b)); h.End <= 0 {
			return fmt.Errorf("%w: the header has an expiry before 1970 (delete the value)", ErrUnsupportedFormat)
		}
		b = b[endSize:]
	}
	if h.Flags&Bound != 0 {
		h.Names = Names(b[0])
		if unknown := h.Names &^ knownNames; unknown != 0 {
			return fmt.Errorf("%w: the header has the unknown binding flags %#02x (update sealcache)", ErrUnsupportedFormat, byte(unknown))
		}
		if h.Names == 0 {
			return fmt.Errorf("%w: the header lacks the binding to type, queue and id of the job (delete the value)", ErrUnsupportedFormat)
		}
		b = b[1:]
	}
	if h.Flags&Hidden != 0 {
		h.PRFKey = binary.BigEndian.Uint32(b)
	}
	return nil
}
