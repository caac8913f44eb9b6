package asynqjobs

import (
	"crypto/rand"
	"encoding/hex"
)

// uuidSize is the length of a UUID (RFC 9562), uuidText that of its text.
const (
	uuidSize = 16
	uuidText = 36
)

// newID returns a random UUID (RFC 9562, version 4), which is what asynq gives a
// task without an id.
func newID() string {
	var b [uuidSize]byte
	rand.Read(b[:])
	b[6] = b[6]&0x0f | 0x40
	b[8] = b[8]&0x3f | 0x80
	return formatUUID(b)
}

func formatUUID(b [uuidSize]byte) string {
	var text [uuidText]byte
	hex.Encode(text[0:8], b[0:4])
	hex.Encode(text[9:13], b[4:6])
	hex.Encode(text[14:18], b[6:8])
	hex.Encode(text[19:23], b[8:10])
	hex.Encode(text[24:36], b[10:16])
	text[8], text[13], text[18], text[23] = '-', '-', '-', '-'
	return string(text[:])
}

// parseUUID reads what formatUUID writes, and nothing else: no upper case, no braces.
func parseUUID(s string) (b [uuidSize]byte, ok bool) {
	if len(s) != uuidText {
		return b, false
	}
	n := 0
	for i := 0; i < len(s); {
		if i == 8 || i == 13 || i == 18 || i == 23 {
			if s[i] != '-' {
				return b, false
			}
			i++
			continue
		}
		high, low := nibble(s[i]), nibble(s[i+1])
		if high|low > 15 {
			return b, false
		}
		b[n] = high<<4 | low
		n++
		i += 2
	}
	return b, true
}

// nibble is the value of a lower-case hexadecimal digit, 255 of anything else.
func nibble(c byte) byte {
	switch {
	case c >= '0' && c <= '9':
		return c - '0'
	case c >= 'a' && c <= 'f':
		return c - 'a' + 10
	default:
		return 255
	}
}
