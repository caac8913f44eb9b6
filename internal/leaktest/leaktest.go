// Package leaktest searches the output of a program for secrets. A test makes random values with a [Set] and uses them as
// secrets. [Set.Find] then searches for them in dumps, logs and error texts.
//
// The search finds a value as plaintext, in lower case, in hexadecimal and in base64. It also finds a part of a text:
// twelve characters of the plaintext, or sixteen of an encoded form. It finds numbers only as a whole. It does not find
// values in compressed data.
package leaktest

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// The lengths of the pieces by which a text and an encoded text are found. An encoded character holds less information.
// Twelve given characters occur in a gigabyte of random bytes with a probability of 2^-66, in a gigabyte of base64 with
// 2^-42. With eight they would be found by chance in one of some ten thousand runs, as a test searches for thousands.
const (
	window        = 12
	encodedWindow = 16
	shortest      = 16 // text that is searched for
)

// Set is a set of canaries with names. Its zero value is empty. It is safe for concurrent use.
type Set struct {
	mu      sync.Mutex
	windows map[[window]byte]string        // names by any piece of a text
	encoded map[[encodedWindow]byte]string // names by any piece of an encoded text
	short   map[string]string              // names by whole forms
}

// Text plants a random text: 26 letters and digits.
func (s *Set) Text(name string) string {
	text := rand.Text()
	s.AddText(name, text)
	return text
}

// AddText adds an existing text. It panics if the text is so short that a search could find it by chance.
func (s *Set) AddText(name, text string) {
	if len(text) < shortest {
		panic("leaktest: AddText needs a text of at least 16 bytes, because a shorter one may occur by chance")
	}
	s.add(name, []byte(text), true)
	s.add(name, []byte(strings.ToLower(text)), true)
}

// Int plants a random number of 17 to 19 digits.
func (s *Set) Int(name string) int64 {
	var b [8]byte
	rand.Read(b[:]) // never fails
	n := int64(binary.BigEndian.Uint64(b[:])>>2 | 1<<60)
	s.AddInt(name, n)
	return n
}

// AddInt adds an existing number of at least ten digits. A search finds it as decimal text and, from 2^32 on, in binary
// of either byte order.
func (s *Set) AddInt(name string, n int64) {
	if n < 1e9 {
		panic("leaktest: AddInt needs a number of at least ten digits, because a shorter one may occur by chance")
	}
	s.exactly(name, []byte(strconv.FormatInt(n, 10)))
	if n > math.MaxUint32 {
		s.add(name, binary.BigEndian.AppendUint64(nil, uint64(n)), false)
		s.add(name, binary.LittleEndian.AppendUint64(nil, uint64(n)), false)
	}
}

// Float plants a random number of about twenty digits.
func (s *Set) Float(name string) float64 {
	var b [8]byte
	rand.Read(b[:])                                                 // never fails
	f := 1e9 + float64(binary.BigEndian.Uint64(b[:])>>11|2)/(1<<23) // with a fraction, or its text could be too short
	s.AddFloat(name, f)
	return f
}

// AddFloat adds an existing number with enough digits. A search finds it as decimal text and in binary of either byte
// order.
func (s *Set) AddFloat(name string, f float64) {
	for _, format := range []byte{'f', 'g'} {
		text := strconv.FormatFloat(f, format, -1, 64)
		if len(text) < 12 {
			panic("leaktest: AddFloat needs a number of at least twelve digits, because a shorter one may occur by chance")
		}
		s.exactly(name, []byte(text))
	}
	s.add(name, binary.BigEndian.AppendUint64(nil, math.Float64bits(f)), false)
	s.add(name, binary.LittleEndian.AppendUint64(nil, math.Float64bits(f)), false)
}

// add adds b and its encoded forms: by any piece of them if pieces is set, otherwise as a whole.
func (s *Set) add(name string, b []byte, pieces bool) {
	var forms [][]byte
	h := hex.EncodeToString(b)
	forms = append(forms, []byte(h), []byte(strings.ToUpper(h)), []byte(escaped(b)))
	for _, enc := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
		for shift := range 3 {
			// These characters hold only bits of b, if shift bytes stand before it.
			text := enc.EncodeToString(append(make([]byte, shift), b...))
			forms = append(forms, []byte(text[(shift*8+5)/6:(shift+len(b))*8/6]))
		}
	}
	if !pieces {
		for _, f := range append(forms, b) {
			s.exactly(name, f)
		}
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.windows == nil {
		s.windows, s.encoded = make(map[[window]byte]string), make(map[[encodedWindow]byte]string)
	}
	for i := 0; i+window <= len(b); i++ {
		s.windows[[window]byte(b[i:])] = name
	}
	for _, f := range forms {
		for i := 0; i+encodedWindow <= len(f); i++ {
			s.encoded[[encodedWindow]byte(f[i:])] = name
		}
	}
}

func (s *Set) exactly(name string, form []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.short == nil {
		s.short = make(map[string]string)
	}
	s.short[string(form)] = name
}

// escaped returns b as redis-server's MONITOR writes it (sds.c, sdscatrepr), without the quotation marks.
func escaped(b []byte) string {
	var out strings.Builder
	for _, c := range b {
		switch {
		case c == '\\' || c == '"':
			out.WriteByte('\\')
			out.WriteByte(c)
		case c == '\n':
			out.WriteString(`\n`)
		case c == '\r':
			out.WriteString(`\r`)
		case c == '\t':
			out.WriteString(`\t`)
		case c == '\a':
			out.WriteString(`\a`)
		case c == '\b':
			out.WriteString(`\b`)
		case c < ' ' || c > '~':
			fmt.Fprintf(&out, `\x%02x`, c)
		default:
			out.WriteByte(c)
		}
	}
	return out.String()
}

// Find returns the names of the canaries in b, each once, in order.
func (s *Set) Find(b []byte) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	found := make(map[string]bool)
	for i := 0; i+window <= len(b); i++ {
		if name, ok := s.windows[[window]byte(b[i:])]; ok {
			found[name] = true
		}
		if i+encodedWindow <= len(b) {
			if name, ok := s.encoded[[encodedWindow]byte(b[i:])]; ok {
				found[name] = true
			}
		}
	}
	for form, name := range s.short {
		if !found[name] && bytes.Contains(b, []byte(form)) {
			found[name] = true
		}
	}
	return slices.Sorted(maps.Keys(found))
}
