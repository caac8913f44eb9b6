package middleware

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tink-crypto/tink-go/v2/prf"

	"github.com/sealcache/sealcache/middleware/internal/pseudonym"
	"github.com/sealcache/sealcache/middleware/internal/wire"
)

// WithHiddenKeys hides the names of keys and tags from the backing store. They are
// stored as keyed pseudonyms of 43 characters, after the namespace, which stays
// readable. The key and the tags are sealed inside the value, so that Keys, Clear,
// Invalidate and batches work. The store still shows how many entries there are,
// their sizes and times, and which operations touch the same entry.
//
// aead.OpenPRF returns a set. The Store does not read entries under plain names,
// because a request for them would show the names. For the same reason New refuses
// WithPlaintext together with this option. A key has at most 8 KiB, key and tags
// together 16 KiB.
//
// # Changing the key
//
// If the set has several keys, every operation looks under each of them, the primary
// key first. Set writes under the primary key. Set and Delete remove the entries under
// the other keys. SetIfNotExists, Increment and Update create an entry under the oldest
// key of the set, so that processes with different primary keys agree on one name. The
// oldest key is the first in the keyset that is not disabled. If aead.OpenPRF did not
// open the set, the order is not known. The key with the lowest id then counts as the
// oldest, and New logs a warning.
//
// To change the key, add a new one in every process, and then make it primary in every
// process. Move the entries with package migrate or "sealcache reseal --hidden-keys".
// Then disable the old key in every process. docs/hiding.md has the steps.
//
// With WithMissOnOpenFailure, an entry that is definitely refused (see SetIfNotExists)
// does not hide a sound one under another key. SetIfNotExists, Increment and Update
// first remove such entries under the newer keys, and then create one under the oldest.
// If the creation fails, they stay removed.
//
// While the set has several keys, one cache key can have two entries. If two processes
// with different primary keys Set one key at the same moment, both entries may be
// removed, and the key is a miss. If a Set runs at the same time as SetIfNotExists,
// Increment or Update that creates the entry, the creator looks again and removes its
// entry. Both entries stay if the creator ends before that, if another client has
// changed its entry already, or if the store is not an AtomicStore. Get then reads the
// one under the primary key, and an atomic operation the one under the oldest key. The
// next Set or Delete removes the other. While some processes have disabled the old key
// and others have not, they do not see each other's new locks.
//
// An entry under a key that the set does not hold is a miss, never a wrong value.
func WithHiddenKeys(set *prf.Set) Option { return hiddenNames("WithHiddenKeys", set, false) }

// WithOneWayKeys is WithHiddenKeys for names that are secrets, such as session
// tokens. The key is not stored at all, not even sealed: Keys is ErrUnsupported.
// The tags are sealed inside the value.
func WithOneWayKeys(set *prf.Set) Option { return hiddenNames("WithOneWayKeys", set, true) }

func hiddenNames(option string, set *prf.Set, oneWay bool) Option {
	return func(c *config) error {
		c.forStore(option)
		if c.hidden != nil {
			return fmt.Errorf("%s: an earlier option hides the cache keys already (keep one of WithHiddenKeys, WithOneWayKeys)", option)
		}
		if _, err := pseudonym.New("", set); err != nil {
			return fmt.Errorf("%s: %w", option, err)
		}
		c.hidden, c.oneWay = set, oneWay
		return nil
	}
}

// An address is one place where the entry of a key may be stored: the key, and one name in the backing store.
type address struct {
	key    string // of the application
	stored string // the name in the backing store: the namespace, then the key or its pseudonym
	prfKey uint32 // the id of the PRF key of the pseudonym
}

// address returns the address of key where Set writes. Every operation on one key starts with it:
//
//   - Reads try it first. After a miss they try the addresses that others returns, in that order.
//   - Set writes to it, and then removes the entries at the addresses of others. Delete removes the entries at all
//     addresses.
//   - A call that creates an entry only if there is none looks at all addresses, and then writes to that of creation.
//   - Changing an entry (a swap, a new expiry) happens at the address where it was found.
//
// Values are sealed and opened with the address: see Store.seal and Store.open.
func (s *Store) address(key any) (address, error) {
	name, err := keyName(key)
	if err != nil {
		return address{}, err
	}
	return s.addressUnder(0, name)
}

// addressOf is address for a key of type string.
func (s *Store) addressOf(key string) (address, error) {
	if err := checkName(key); err != nil {
		return address{}, err
	}
	return s.addressUnder(0, key)
}

// addressUnder returns the address of a key under PRF key i. Without hidden names there is one, 0.
func (s *Store) addressUnder(i int, key string) (address, error) {
	if s.names == nil {
		stored := s.prefix + key
		return address{key: key, stored: stored}, s.checkNotTagList(stored)
	}
	if len(key) > pseudonym.MaxNameBytes {
		return address{}, &nameError{fmt.Sprintf("middleware: the cache key has %d bytes (with hidden keys, at most %d are allowed)", len(key), pseudonym.MaxNameBytes), ErrTooLarge}
	}
	var buf [wire.MaxNamespaceBytes + 1 + pseudonym.Size]byte
	stored, err := s.names.AppendKey(append(buf[:0], s.prefix...), i, key)
	if err != nil {
		return address{}, fmt.Errorf("middleware: cannot compute the hidden name of the cache key: %w", err)
	}
	return address{key, string(stored), s.names.ID(i)}, nil
}

// prfKeys returns the number of PRF keys under which an entry may be.
func (s *Store) prfKeys() int {
	if s.names == nil {
		return 1
	}
	return s.names.Len()
}

// addresses returns the addresses of keys under PRF key i. It leaves out keys that
// fail.
func (s *Store) addresses(i int, keys []string, fail func(key string, err error)) []address {
	addresses := make([]address, 0, len(keys))
	for _, key := range keys {
		a, err := s.addressUnder(i, key)
		if err != nil {
			fail(key, err)
			continue
		}
		addresses = append(addresses, a)
	}
	return addresses
}

func storedNames(addresses []address) []string {
	names := make([]string, len(addresses))
	for i, a := range addresses {
		names[i] = a.stored
	}
	return names
}

// others returns the other addresses of a, at which an entry of older or newer PRF keys may be. Without hidden names,
// and with one PRF key, there are none.
func (s *Store) others(a address) ([]address, error) {
	if s.prfKeys() == 1 {
		return nil, nil
	}
	var others []address
	for i := range s.names.Len() {
		o, err := s.addressUnder(i, a.key)
		if err != nil {
			return nil, err
		}
		if o != a {
			others = append(others, o)
		}
	}
	return others, nil
}

// creation returns the address at which an entry of a's key is created if there is none. All processes agree on it, also
// while their primary PRF keys differ.
func (s *Store) creation(a address) (address, error) {
	if s.names == nil {
		return a, nil
	}
	return s.addressUnder(s.names.Oldest(), a.key)
}

// seal appends the sealed form of value at an address to dst. end is the end of its
// life, or the zero time for none: endOf gives it. The tags are sealed with the
// value, so that a later write knows them.
func (s *Store) seal(ctx context.Context, dst []byte, sc *scratch, a address, value any, end time.Time, tags []string) ([]byte, error) {
	return s.sealer.seal(ctx, dst, sc, s.binding(a, end, tags), value)
}

// open returns the value that is stored at an address, with what was sealed with it:
// endIn(o.header) is its end, o.labels.Tags are its tags. If owned, stored is
// overwritten and the value may share its memory. A value past its end is a miss
// whose cause is errExpired.
func (s *Store) open(ctx context.Context, a address, stored []byte, owned bool) (opened, error) {
	return s.sealer.open(ctx, s.binding(a, time.Time{}, nil), stored, owned)
}

// openEncoded is open without decoding.
func (s *Store) openEncoded(ctx context.Context, a address, stored []byte, owned bool) (opened, error) {
	return s.sealer.openEncoded(ctx, s.binding(a, time.Time{}, nil), stored, owned)
}

// binding returns the context and labels with which a value at an address is sealed.
func (s *Store) binding(a address, end time.Time, tags []string) binding {
	b := binding{name: s.name(a), labels: wire.Labels{Tags: tags}, end: unixMilli(end)}
	if s.names == nil && b.labels.Size(wire.Tagged) > wire.MaxLabelsBytes {
		b.labels.Tags = nil // Touch then does not extend them
	}
	if s.names != nil {
		b.flags, b.prfKey = wire.Hidden, a.prfKey
		b.labels.Key = a.key
		if !s.cfg.oneWay {
			b.flags |= wire.Named
		}
	}
	return b
}

// announceNames logs once that the age of PRF keys is not known.
func (s *Store) announceNames() {
	if s.names != nil && !s.names.Ordered() {
		s.tel.log.Warn("sealcache: the age of the PRF keys is unknown: the lowest id counts as the oldest (use aead.OpenPRF)", "oldest", s.names.ID(s.names.Oldest()))
	}
}

// name is the name that a value at the address is bound to.
func (s *Store) name(a address) string { return a.stored[len(s.prefix):] }

// storedTags returns the names of tags in the backing store under PRF key i.
func (s *Store) storedTags(i int, tags []string) ([]string, error) {
	if len(tags) == 0 || s.prefix == "" && s.names == nil {
		return tags, nil
	}
	out := make([]string, len(tags))
	for j, t := range tags {
		if s.names == nil {
			out[j] = s.prefix + t
			continue
		}
		var buf [wire.MaxNamespaceBytes + 1 + pseudonym.Size]byte
		stored, err := s.names.AppendTag(append(buf[:0], s.prefix...), i, t)
		if err != nil {
			return nil, fmt.Errorf("middleware: cannot compute the hidden name of a tag: %w", err)
		}
		out[j] = string(stored)
	}
	return out, nil
}

// storedTagsUnderAll returns the names of tags in the backing store under every PRF key, the primary key last. A migration
// may move an entry from an older key to the primary key in between. It tags the new name before the old one goes, so a tag
// under the primary key that is read last holds one of the two.
func (s *Store) storedTagsUnderAll(tags []string) ([]string, error) {
	var all []string
	for i := s.prfKeys() - 1; i >= 0; i-- {
		under, err := s.storedTags(i, tags)
		if err != nil {
			return nil, err
		}
		all = append(all, under...)
	}
	return all, nil
}

var errHiddenPlaintext = errors.New("WithPlaintext excludes WithHiddenKeys and WithOneWayKeys (remove WithPlaintext or the other option)")
