// Package pseudonym hides the names of entries and tags from the operator of a store. The store
// sees only a pseudonym of each name. Begin with [New].
//
// A pseudonym is the output of a keyed function (a Tink PRF) with the name as its input. Equal names have equal pseudonyms.
// Without the key, an attacker cannot compute the pseudonym of a name, or test a guess.
//
// FORMAT.md, section "Hidden names", specifies the bytes.
package pseudonym

import (
	"cmp"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/tink-crypto/tink-go/v2/prf"

	"github.com/sealcache/sealcache/internal/nilcheck"
	"github.com/sealcache/sealcache/middleware/internal/wire"
)

const (
	// Size is the length of a pseudonym in the backing store: 32 bytes in base64url without padding.
	Size = 43

	// MaxNameBytes bounds a cache key that is hidden, because it is sealed with the value.
	MaxNameBytes = wire.MaxLabelsBytes / 2

	bytes = 32
)

// The type distinguishes pseudonyms of keys from those of tags. The number is a part of the PRF's input, so that a
// key and a tag of one name differ.
type kind byte

const (
	key kind = 1
	tag kind = 2
)

// A Set makes the pseudonyms of one namespace under each key of a PRF set. It is safe for concurrent use.
type Set struct {
	context []byte // the input before kind and name
	keys    []prfKey
	oldest  int
	ordered bool
	memory  sync.Pool // of *memory: a PRF behind an interface would let each input and output escape to the heap
}

type prfKey struct {
	id  uint32
	prf prf.PRF
	// appender is prf, or nil if it always returns new memory.
	appender appendPRF
}

// appendPRF is a PRF that appends its output to given memory, as the PRFs of aead.OpenPRF do.
type appendPRF interface {
	AppendPRF(dst, input []byte, outputLength uint32) ([]byte, error)
}

// memory is the memory of one pseudonym.
type memory struct {
	input  []byte
	output [64]byte // the longest HMAC
}

// New returns a Set. An empty namespace means none. It checks that each key returns 32 bytes, and copies the set.
func New(namespace string, set *prf.Set) (*Set, error) {
	if set == nil || len(set.PRFs) == 0 {
		return nil, errors.New("the set of PRF keys is nil or empty (make it with aead.OpenPRF)")
	}
	if _, ok := set.PRFs[set.PrimaryID]; !ok {
		return nil, errors.New("the set of PRF keys has no primary key")
	}
	s := &Set{context: wire.AppendContext(nil, wire.KeyName, namespace)}
	for _, id := range slices.Sorted(maps.Keys(set.PRFs)) {
		f := set.PRFs[id]
		if nilcheck.IsNil(f) {
			return nil, fmt.Errorf("the PRF key %d is nil", id)
		}
		if out, err := f.ComputePRF([]byte("sealcache probe"), bytes); err != nil || len(out) != bytes {
			return nil, fmt.Errorf("the PRF of key %d cannot produce %d bytes (use a key of type HMAC-SHA256 or HKDF)", id, bytes)
		}
		appender, _ := f.(appendPRF)
		s.keys = append(s.keys, prfKey{id, f, appender})
	}
	s.order()
	primary := slices.IndexFunc(s.keys, func(k prfKey) bool { return k.id == set.PrimaryID })
	first := s.keys[primary]
	s.keys = slices.Insert(slices.Delete(s.keys, primary, primary+1), 0, first)
	if primary > 0 {
		s.oldest = 1 // the primary key stood after the oldest, which is now second
	}
	return s, nil
}

// order sorts the keys by their age: by the position in the keyset if the set knows it, else by id.
func (s *Set) order() {
	s.ordered = true
	positions := make(map[uint32]int, len(s.keys))
	for _, k := range s.keys {
		p, ok := k.prf.(interface{ KeysetPosition() int })
		if !ok {
			s.ordered = len(s.keys) == 1
			return
		}
		positions[k.id] = p.KeysetPosition()
	}
	slices.SortStableFunc(s.keys, func(a, b prfKey) int { return cmp.Compare(positions[a.id], positions[b.id]) })
}

// Len returns the number of keys. They are numbered from 0, the primary key.
func (s *Set) Len() int { return len(s.keys) }

// Oldest returns the number of the key that all processes treat as the oldest one.
func (s *Set) Oldest() int { return s.oldest }

// Ordered reports whether the age of the keys is known. Without it the lowest id counts as the oldest.
func (s *Set) Ordered() bool { return s.ordered }

// ID returns the id of key i.
func (s *Set) ID(i int) uint32 { return s.keys[i].id }

// Index returns the number of the key with an id, or -1.
func (s *Set) Index(id uint32) int {
	return slices.IndexFunc(s.keys, func(k prfKey) bool { return k.id == id })
}

// AppendKey appends the pseudonym of a cache key under key i.
func (s *Set) AppendKey(dst []byte, i int, name string) ([]byte, error) {
	return s.append(dst, i, key, name)
}

// All returns the pseudonyms of a cache key, one for each PRF key: first that of the primary key.
func (s *Set) All(name string) ([]string, error) {
	all := make([]string, s.Len())
	for i := range all {
		p, err := s.AppendKey(nil, i, name)
		if err != nil {
			return nil, err
		}
		all[i] = string(p)
	}
	return all, nil
}

// AppendTag appends the pseudonym of a tag under key i.
func (s *Set) AppendTag(dst []byte, i int, name string) ([]byte, error) {
	return s.append(dst, i, tag, name)
}

func (s *Set) append(dst []byte, i int, of kind, name string) ([]byte, error) {
	m, ok := s.memory.Get().(*memory)
	if !ok {
		m = new(memory)
	}
	in := append(append(append(m.input[:0], s.context...), byte(of)), name...)
	var out []byte
	var err error
	if k := s.keys[i]; k.appender != nil {
		out, err = k.appender.AppendPRF(m.output[:0], in, bytes)
	} else {
		out, err = k.prf.ComputePRF(in, bytes)
	}
	switch {
	case err == nil && len(out) != bytes:
		dst, err = nil, fmt.Errorf("ComputePRF of PRF key %d returned %d bytes, want %d", s.keys[i].id, len(out), bytes)
	case err != nil:
		dst, err = nil, fmt.Errorf("ComputePRF of PRF key %d failed; its error may quote a cache key, so it is not shown (log it in ComputePRF)", s.keys[i].id)
	default:
		dst = base64.RawURLEncoding.AppendEncode(dst, out)
	}
	clear(in) // the name may be a secret
	m.input = in
	s.memory.Put(m)
	return dst, err
}

// Is reports whether a name, without its namespace, has the form of a pseudonym.
func Is(name string) bool {
	if len(name) != Size {
		return false
	}
	var buf [bytes]byte
	n, err := base64.RawURLEncoding.Strict().Decode(buf[:], []byte(name))
	return err == nil && n == bytes
}
