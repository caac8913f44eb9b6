package middleware

import (
	"context"
	"fmt"
	"iter"
	"strings"

	"github.com/sealcache/sealcache/middleware/internal/pseudonym"
	"github.com/sealcache/sealcache/middleware/internal/wire"
)

// Keys streams the names of the namespace's entries, without the namespace, or of
// all entries if the store has none. An entry that exists during the whole scan
// is named at least once. An entry that appears or disappears during the scan may
// be named. The sequence ends after the first error, which is ErrUnsupported if
// the backing store cannot enumerate.
//
// With WithHiddenKeys, Keys reads and opens every value, because the name is sealed
// inside it. Keys logs and leaves out an entry that does not open or has a plain name.
// It does the same with an entry that is hidden under a PRF key that the set does not
// hold. After all names, a last error then counts these entries. A key service that
// does not answer ends the sequence. With WithOneWayKeys, Keys is ErrUnsupported.
func (s *Store) Keys(ctx context.Context) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		switch {
		case s.cfg.oneWay:
			yield("", errOneWay)
		case s.can.lister == nil:
			yield("", s.unsupported("list its entries"))
		case s.names != nil:
			s.hiddenKeys(ctx, yield)
		default:
			for name, err := range s.storedKeys(ctx) {
				if !yield(strings.TrimPrefix(name, s.prefix), err) || err != nil {
					return
				}
			}
		}
	}
}

// storedKeys streams the stored names of the namespace's entries.
func (s *Store) storedKeys(ctx context.Context) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		for name, err := range s.can.lister.Keys(ctx, s.prefix) {
			if err != nil {
				yield("", s.backingError(err))
				return
			}
			if !s.isKeyCheck(name) && !yield(name, nil) {
				return
			}
		}
	}
}

var (
	errOneWay    = fmt.Errorf("%w: cache keys that WithOneWayKeys hides cannot be listed", ErrUnsupported)
	errPlainName = fmt.Errorf("%w: the entry was renamed, or was written without WithHiddenKeys", ErrUnauthentic)
	errOtherPRF  = fmt.Errorf("%w: the entry's name was hidden with a PRF key that this Store lacks", ErrUnknownKey)
)

// namesAtOnce is how many values Keys reads at a time to get their names.
const namesAtOnce = 100

func (s *Store) hiddenKeys(ctx context.Context, yield func(string, error) bool) {
	unread, first := 0, error(nil)
	flush := func(stored []string) bool {
		for _, r := range s.readNames(ctx, stored) {
			switch {
			case r.err == nil:
				if !yield(r.key, nil) {
					return false
				}
			case isMiss(r.err): // it has disappeared, or is past its end
			case unreadable(r.err):
				s.tel.unreadableValue(ctx, "Keys", r.err)
				if unread++; unread == 1 {
					first = r.err
				}
			default:
				yield("", r.err)
				return false
			}
		}
		return true
	}
	var part []string
	for name, err := range s.storedKeys(ctx) {
		if err != nil {
			yield("", err)
			return
		}
		if part = append(part, name); len(part) == namesAtOnce {
			if !flush(part) {
				return
			}
			part = part[:0]
		}
	}
	if flush(part) && unread > 0 {
		yield("", fmt.Errorf("middleware: Keys: the names of %d entries could not be read; the first error: %w", unread, first))
	}
}

// readName is the key of an entry, or why it is not known.
type readName struct {
	key string
	err error
}

// readNames reads the keys of entries under stored names.
func (s *Store) readNames(ctx context.Context, names []string) []readName {
	if len(names) == 0 {
		return nil
	}
	keys := make([]readName, len(names))
	if s.can.batch == nil {
		for i, name := range names {
			v, err := s.fetch(ctx, name, false)
			if err == nil && v.notBytes {
				err = errPlaintextRefused
			}
			if err == nil {
				keys[i].key, err = s.readName(ctx, name, v.raw)
			}
			keys[i].err = err
		}
		return keys
	}
	values, errs := s.can.batch.GetBytesMany(ctx, names, s.sealer.maxStored())
	for i, name := range names {
		switch {
		case errs != nil && errs[i] != nil:
			keys[i].err = s.backingError(errs[i])
		case values[i] == nil:
			keys[i].err = miss(nil)
		default:
			keys[i].key, keys[i].err = s.readName(ctx, name, values[i])
		}
	}
	return keys
}

// readName returns the key that is sealed in the value under a stored name.
func (s *Store) readName(ctx context.Context, name string, stored []byte) (string, error) {
	h, n, err := s.sealer.box.Parse(stored)
	if err != nil {
		return "", err
	}
	if h.Flags&wire.Named == 0 || !pseudonym.Is(name[len(s.prefix):]) {
		return "", errPlainName
	}
	o, err := s.sealer.unseal(ctx, name[len(s.prefix):], h, n, stored, false)
	if err == nil {
		err = expired(h, s.cfg.now)
	}
	if err != nil {
		return "", err
	}
	for i := range s.prfKeys() {
		a, err := s.addressUnder(i, o.labels.Key)
		if err == nil && a.stored == name && a.prfKey == h.PRFKey {
			return a.key, nil
		}
	}
	return "", errOtherPRF
}
