package cachevalue

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"

	"github.com/sealcache/sealcache/middleware/internal/plaintext"
	"github.com/sealcache/sealcache/middleware/internal/wire"
)

// Form is another meaning that the bytes of a plaintext value may have, besides a cache value.
type Form byte

// The forms of plaintext.
const (
	Plain Form = iota
	Number
	Fernet
	HyperLogLog
)

// FormOf returns the form of a whole value.
func FormOf(b []byte) Form {
	switch {
	case IsNumber(b):
		return Number
	case IsHyperLogLog(b):
		return HyperLogLog
	case IsFernet(b):
		return Fernet
	default:
		return Plain
	}
}

// IsNumber reports whether b is a whole number in the only form that INCR accepts and writes. The form is decimal, 64
// bits, no sign except a minus, no leading zeros (util.c, string2ll).
func IsNumber(b []byte) bool {
	const longest = len("-9223372036854775808")
	if len(b) == 0 || len(b) > longest || b[len(b)-1] < '0' || b[len(b)-1] > '9' {
		return false
	}
	n, err := strconv.ParseInt(string(b), 10, 64)
	return err == nil && strconv.FormatInt(n, 10) == string(b)
}

// MaxHyperLogLog is the length of the longest value that PFADD accepts.
const MaxHyperLogLog = 16 + (16384*6+7)/8 + 1

// LooksHyperLogLog reports whether a value starts like a HyperLogLog. Only IsHyperLogLog on the whole value decides.
func LooksHyperLogLog(start []byte) bool { return len(start) >= 4 && string(start[:4]) == "HYLL" }

// IsHyperLogLog reports whether b has the form that PFADD writes: "HYLL", encoding, header of 16 bytes, and then 16,384
// registers. The registers are dense with 6 bits each, or sparse in run lengths (hyperloglog.c, isHLLObjectOrReply and
// hllSparseToDense). Redis itself accepts any text after a sparse header.
func IsHyperLogLog(b []byte) bool {
	const header, registers, dense = 16, 16384, 16 + (16384*6+7)/8
	if len(b) < header || !LooksHyperLogLog(b) || b[5]|b[6]|b[7] != 0 {
		return false
	}
	switch b[4] {
	case 0:
		return len(b) == dense || len(b) == dense+1 // hllDenseRegister reads one byte more
	case 1:
		n, ops := 0, b[header:]
		for i := 0; i < len(ops); i++ {
			switch c := ops[i]; c & 0xC0 {
			case 0: // ZERO
				n += int(c&0x3F) + 1
			case 0x40: // XZERO
				if i++; i == len(ops) {
					return false
				}
				n += int(c&0x3F)<<8 + int(ops[i]) + 1
			default: // VAL
				n += int(c&0x03) + 1
			}
		}
		return n == registers
	default:
		return false
	}
}

// IsFernet reports whether a value starts like a Fernet token: version 0x80 and a time before the year 2106, in base64url.
func IsFernet(start []byte) bool {
	return len(start) >= 100 && bytes.HasPrefix(start, []byte("gAAAAA")) &&
		!slices.ContainsFunc(start, func(c byte) bool {
			return (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') && c != '-' && c != '_' && c != '='
		})
}

// ErrNoForm reports that a value cannot have the form that was asked for.
var ErrNoForm = errors.New("the value cannot be stored as plaintext")

// Fits reports whether a plaintext value can be of a type. An attacker may have planted the value. Once it is sealed, readers
// decode it without another check.
func Fits(t wire.Type, b []byte) bool {
	switch t {
	case wire.JSON:
		return json.Valid(b)
	case wire.MsgPack:
		return plaintext.CheckMsgPack(b) == nil
	default:
		return true
	}
}

// Text returns the plaintext of a type as a client of Redis would have written it, and as middleware.WritePlaintext does.
// Numbers are decimal text, bools are 1 and 0. The result may share memory with b.
func Text(t wire.Type, b []byte) ([]byte, error) {
	if want := t.Width(); want != 0 && len(b) != want {
		return nil, fmt.Errorf("%w: the stored %s has the wrong length of %d bytes (delete the value)", wire.ErrUnsupportedFormat, t, len(b))
	}
	var u uint64
	switch len(b) {
	case 1:
		u = uint64(b[0])
	case 2:
		u = uint64(binary.BigEndian.Uint16(b))
	case 4:
		u = uint64(binary.BigEndian.Uint32(b))
	case 8:
		u = binary.BigEndian.Uint64(b)
	}
	switch t {
	case wire.Bool:
		if u > 1 {
			return nil, fmt.Errorf("%w: the stored bool is a byte other than 0 and 1 (delete the value)", wire.ErrUnsupportedFormat)
		}
		return strconv.AppendUint(nil, u, 10), nil
	case wire.Int8:
		return strconv.AppendInt(nil, int64(int8(u)), 10), nil
	case wire.Int16:
		return strconv.AppendInt(nil, int64(int16(u)), 10), nil
	case wire.Int32:
		return strconv.AppendInt(nil, int64(int32(u)), 10), nil
	case wire.Int, wire.Int64:
		return strconv.AppendInt(nil, int64(u), 10), nil
	case wire.Uint, wire.Uint8, wire.Uint16, wire.Uint32, wire.Uint64, wire.Uintptr:
		return strconv.AppendUint(nil, u, 10), nil
	case wire.Float32: // go-redis widens before it prints
		return strconv.AppendFloat(nil, float64(math.Float32frombits(uint32(u))), 'f', -1, 64), nil
	case wire.Float64:
		return strconv.AppendFloat(nil, math.Float64frombits(u), 'f', -1, 64), nil
	}
	if wire.IsSealed(b) {
		return nil, fmt.Errorf("%w: it starts like a sealed value, so readers would try to open it", ErrNoForm)
	}
	return b, nil
}
