package jobs

import (
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"

	"github.com/sealcache/sealcache/middleware/internal/wire"
)

// tokenDomain starts the input of the PRF for every token, and keeps tokens apart
// from whatever else the same PRF keys are used for.
const tokenDomain = "sealcache.token.v1"

// TokenSize is the length of a token's text.
const TokenSize = 43

// Token returns a keyed token of parts: equal for equal domain, namespace and
// parts, and without the key neither to be computed nor to be guessed at. It is 43
// letters, digits, "-" and "_" (32 bytes in base64url). Different lists of parts
// never give the same token: ("ab", "c") and ("a", "bc") differ.
//
// domain says what the token is for, so that tokens of different uses never
// match; take one that begins with your application's name. Those that begin with
// "asynqjobs." are taken.
//
// Whoever sees two tokens learns whether they are of the same parts, and no more.
// The token is made with the PRF set's primary key; without a set it is ErrNoPRF.
func (e *Encryptor) Token(domain string, parts ...[]byte) (string, error) {
	t, err := e.RawToken(domain, parts...)
	if err != nil {
		return "", err
	}
	return base64.RawURLEncoding.EncodeToString(t[:]), nil
}

// RawToken is Token as 32 bytes.
func (e *Encryptor) RawToken(domain string, parts ...[]byte) ([32]byte, error) {
	if e.cfg.prf == nil {
		return [32]byte{}, ErrNoPRF
	}
	return e.token(e.cfg.prf.PrimaryID, e.tokenInput(domain, parts))
}

// Tokens returns the token of parts under every key of the PRF set, that of the
// primary key first. It is for looking up what was written before the primary key
// changed.
func (e *Encryptor) Tokens(domain string, parts ...[]byte) ([]string, error) {
	if e.cfg.prf == nil {
		return nil, ErrNoPRF
	}
	input := e.tokenInput(domain, parts)
	tokens := make([]string, 0, len(e.cfg.prf.PRFs))
	for _, id := range e.prfKeys() {
		t, err := e.token(id, input)
		if err != nil {
			return nil, err
		}
		tokens = append(tokens, base64.RawURLEncoding.EncodeToString(t[:]))
	}
	return tokens, nil
}

// IsToken tells whether token is that of parts under any key of the set. It takes
// the same time wherever two tokens differ.
func (e *Encryptor) IsToken(token [32]byte, domain string, parts ...[]byte) (bool, error) {
	if e.cfg.prf == nil {
		return false, ErrNoPRF
	}
	input := e.tokenInput(domain, parts)
	for _, id := range e.prfKeys() {
		t, err := e.token(id, input)
		if err != nil {
			return false, err
		}
		if subtle.ConstantTimeCompare(t[:], token[:]) == 1 {
			return true, nil
		}
	}
	return false, nil
}

// Pseudonyms returns a table that leads from the tokens of the given names, under
// every key of the set, back to the names: what a worker needs to restore hidden
// type names that it knows.
func (e *Encryptor) Pseudonyms(domain string, names ...string) (map[string]string, error) {
	table := make(map[string]string, len(names))
	for _, name := range names {
		tokens, err := e.Tokens(domain, []byte(name))
		if err != nil {
			return nil, err
		}
		for _, t := range tokens {
			table[t] = name
		}
	}
	return table, nil
}

// HasPRF tells whether the Encryptor was made with WithPRF.
func (e *Encryptor) HasPRF() bool { return e.cfg.prf != nil }

// prfKeys returns the ids of the PRF keys, the primary first.
func (e *Encryptor) prfKeys() []uint32 {
	ids := slices.Sorted(maps.Keys(e.cfg.prf.PRFs))
	i := slices.Index(ids, e.cfg.prf.PrimaryID)
	return append([]uint32{e.cfg.prf.PrimaryID}, slices.Delete(ids, i, i+1)...)
}

// tokenInput encodes domain, namespace and parts so that no two lists are alike:
// each has its length before it.
func (e *Encryptor) tokenInput(domain string, parts [][]byte) []byte {
	n := len(tokenDomain) + lengthSize + len(e.cfg.namespace) + lengthSize + len(domain)
	for _, p := range parts {
		n += longLengthSize + len(p)
	}
	in := append(make([]byte, 0, n), tokenDomain...)
	in = wire.AppendName(in, e.cfg.namespace)
	in = wire.AppendName(in, domain)
	for _, p := range parts {
		in = binary.BigEndian.AppendUint64(in, uint64(len(p)))
		in = append(in, p...)
	}
	return in
}

const (
	lengthSize     = 4
	longLengthSize = 8 // a payload is no name: its length is not bounded to four bytes
)

func (e *Encryptor) token(key uint32, input []byte) ([32]byte, error) {
	out, err := e.cfg.prf.PRFs[key].ComputePRF(input, wire.TagSize)
	if err != nil || len(out) != wire.TagSize {
		return [32]byte{}, fmt.Errorf("jobs: token: PRF key %d failed", key) // its text is not ours to show
	}
	return [32]byte(out), nil
}
