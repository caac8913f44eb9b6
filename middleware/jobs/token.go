package jobs

import (
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"

	"github.com/tink-crypto/tink-go/v2/prf"

	"github.com/sealcache/sealcache/middleware/internal/wire"
)

// A Token is a keyed pseudonym of a list of byte strings. Equal lists have equal
// tokens. Without the key, an attacker cannot compute or guess a token. A reader
// of two tokens learns only whether they stand for the same list.
type Token [wire.TagSize]byte

// String is the token in base64url: letters, digits, "-" and "_".
func (t Token) String() string { return base64.RawURLEncoding.EncodeToString(t[:]) }

// Tokens makes tokens with the PRF set of an Encryptor: for unique jobs, hidden
// type names and schedules. It is safe for concurrent use. The methods of a nil
// Tokens return ErrNoPRF.
//
// The domain names the purpose of a token, so that tokens of different uses never
// match. Begin it with the name of your application. Domains that begin with
// "asynqjobs." are reserved. Different lists of parts never share a token: ("ab",
// "c") and ("a", "bc") differ.
type Tokens struct {
	namespace string
	set       *prf.Set
	keys      []uint32 // the primary key first
}

func newTokens(namespace string, set *prf.Set) *Tokens {
	keys := slices.Sorted(maps.Keys(set.PRFs))
	i := slices.Index(keys, set.PrimaryID)
	return &Tokens{namespace, set, append([]uint32{set.PrimaryID}, slices.Delete(keys, i, i+1)...)}
}

// Tokens returns the maker of tokens, or nil without WithPRF.
func (e *Encryptor) Tokens() *Tokens { return e.tokens }

// Token returns the token of parts under the primary key.
func (t *Tokens) Token(domain string, parts ...[]byte) (Token, error) {
	if t == nil {
		return Token{}, ErrNoPRF
	}
	return t.token(t.set.PrimaryID, t.input(domain, parts))
}

// All returns the token of parts under each key of the set, the primary key
// first. It finds tokens that were made before the primary key changed.
func (t *Tokens) All(domain string, parts ...[]byte) ([]Token, error) {
	if t == nil {
		return nil, ErrNoPRF
	}
	input := t.input(domain, parts)
	tokens := make([]Token, 0, len(t.keys))
	for _, id := range t.keys {
		token, err := t.token(id, input)
		if err != nil {
			return nil, err
		}
		tokens = append(tokens, token)
	}
	return tokens, nil
}

// tokenDomain starts the input of the PRF. It separates tokens from other uses of
// the same keys.
const tokenDomain = "sealcache.token.v1"

const (
	lengthSize     = 4
	longLengthSize = 8 // of a part, which may be a payload
)

// input encodes domain, namespace and parts, each after its length, so that no
// two lists encode alike.
func (t *Tokens) input(domain string, parts [][]byte) []byte {
	n := len(tokenDomain) + lengthSize + len(t.namespace) + lengthSize + len(domain)
	for _, p := range parts {
		n += longLengthSize + len(p)
	}
	in := append(make([]byte, 0, n), tokenDomain...)
	in = wire.AppendName(in, t.namespace)
	in = wire.AppendName(in, domain)
	for _, p := range parts {
		in = binary.BigEndian.AppendUint64(in, uint64(len(p)))
		in = append(in, p...)
	}
	return in
}

func (t *Tokens) token(key uint32, input []byte) (Token, error) {
	out, err := t.set.PRFs[key].ComputePRF(input, wire.TagSize)
	switch {
	case err == nil && len(out) != wire.TagSize:
		return Token{}, fmt.Errorf("jobs: ComputePRF of PRF key %d returned %d bytes, want %d", key, len(out), wire.TagSize)
	case err != nil:
		return Token{}, fmt.Errorf("jobs: ComputePRF of PRF key %d failed; its error may quote data of a job, so it is not shown (log it in ComputePRF)", key)
	}
	return Token(out), nil
}
