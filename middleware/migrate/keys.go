package migrate

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/internal/rediserr"
	"github.com/sealcache/sealcache/middleware/internal/box"
	"github.com/sealcache/sealcache/middleware/internal/cachevalue"
	"github.com/sealcache/sealcache/middleware/internal/content"
	"github.com/sealcache/sealcache/middleware/internal/keycheck"
	"github.com/sealcache/sealcache/middleware/internal/rediswalk"
	"github.com/sealcache/sealcache/middleware/internal/wire"
)

// ErrWrongKeys means that the keys, the namespace or the prefix are not those of the application. Or Keys is a
// keyring where the application has an envelope. Either the key check of a namespace, or the entry of Config.Proof,
// does not open. Or no sealed value among the first batches opens; with Config.IgnoreUnreadable the run then
// continues.
//
// The key check is the entry "sealcache.key-check" of each namespace, which Store.Check of the application makes. If an
// attacker has replaced it, or it is older than the keys, delete it: the next Store.Check makes a new one.
//
// Report.Written says how many entries were written before. They are sealed under the wrong keys. Delete the key check
// of the namespace, and unseal the entries with the same keys and Config.AllowUnproven. Or delete the entries.
var ErrWrongKeys = errors.New("migrate: the given keys are not those of the application")

// ErrUnproven reports that nothing proves Config.Keys, or that nothing proves the PRF keys by which Seal hides names.
//
// Keys are proven by the key check of the namespace, which Store.Check of the application makes. PRF keys are proven by an
// entry whose hidden name one of them gives. A one-way name proves nothing without its key. Without these, give
// Config.Proof, or set Config.AllowUnproven.
var ErrUnproven = errors.New("migrate: cannot tell whether the keys are right")

// The proofs of Config.Keys that a Report names.
const (
	provenByKeyCheck = "key check"
	provenByProof    = "proof"
)

// proveKeys opens the key checks of the namespaces and the entry of Proof, before anything else is read.
func (m *migration) proveKeys(ctx context.Context) error {
	namespaces := []string{m.target().Namespace}
	if m.From.Namespace != m.target().Namespace {
		namespaces = append(namespaces, m.From.Namespace)
	}
	underOld := false
	for _, ns := range namespaces {
		by, err := m.openKeyCheck(ctx, ns)
		switch {
		case err != nil:
			return err
		case by == 0:
			m.provenBy = provenByKeyCheck
		case by > 0:
			underOld = true
		}
	}
	if m.Proof != "" {
		if err := m.openProof(ctx); err != nil {
			return err
		}
		if m.provenBy == "" {
			m.provenBy = provenByProof
		}
	}
	if m.provenBy == "" && !m.AllowUnproven {
		if underOld {
			return fmt.Errorf("%w: the entry %s opens only with Config.OldKeys (set Config.AllowUnproven)", ErrUnproven, keycheck.Name)
		}
		if empty, err := m.foundNoName(ctx); rediserr.RefusedForGood(err) {
			return fmt.Errorf("%w: there is no entry %s, and Redis refused to list names: %w", ErrUnproven, keycheck.Name, err)
		} else if err != nil { // a repeated run may find the names
			return fmt.Errorf("migrate: cannot list the names of the namespace: %w", err)
		} else if empty && m.From.stored() != "" {
			return fmt.Errorf("%w: no name starts with %q (check Config.From.Prefix or the namespace)", ErrUnproven, m.From.stored())
		}
		return fmt.Errorf("%w: there is no entry %s (set Config.Proof, or let the application call Store.Check)", ErrUnproven, keycheck.Name)
	}
	return nil
}

// foundNoName reports whether no name of the run is in Redis. It gives up after firstScans calls, and then reports false.
func (m *migration) foundNoName(ctx context.Context) (empty bool, err error) {
	err = m.walk.Retry(ctx, "SCAN", func(ctx context.Context) error {
		empty = true
		return m.servers.EachMaster(ctx, func(ctx context.Context, node redis.Cmdable) error {
			cursor := uint64(0)
			for n := 0; empty && n < firstScans; n++ {
				names, next, err := node.Scan(ctx, cursor, m.walk.Pattern, int64(m.tuning.BatchSize)).Result()
				if err != nil {
					return err
				}
				if err := m.throttle.Entries(ctx, max(len(names)/4, 1)); err != nil {
					return err
				}
				empty = len(names) == 0
				if cursor = next; cursor == 0 {
					return nil
				}
			}
			empty = false
			return nil
		})
	})
	return empty, rediserr.Wrap(err)
}

// proveNames refuses to hide names with PRF keys that may not be the application's. The application would not find its
// entries, and keys that are hidden one way cannot be restored.
func (m *migration) proveNames(c *first) error {
	wrong := c.otherNames > 0 && c.oneWayNames == 0
	switch {
	case m.names == nil || m.Operation != Seal || m.namesProven.Load():
		return nil
	case wrong && m.DryRun:
		m.warn("the real run would refuse to start: no hidden name in Redis was made with the given PRF keys")
		return nil
	case wrong && !m.IgnoreUnreadable:
		return fmt.Errorf("%w: no hidden name in Redis was made with the given PRF keys", ErrWrongKeys)
	case m.AllowUnproven:
		return nil
	default:
		return fmt.Errorf("%w: no hidden name confirms the PRF keys (set Config.Proof or Config.AllowUnproven)", ErrUnproven)
	}
}

// openKeyCheck returns which keys open the key check of a namespace, as openedBy does. It is negative if there is none. A
// key check that neither Keys nor OldKeys open is an error.
func (m *migration) openKeyCheck(ctx context.Context, namespace string) (by int, err error) {
	stored, err := m.get(ctx, keycheck.StoredName(namespace), keycheck.MaxBytes)
	if errors.Is(err, errTooLarge) {
		return -1, fmt.Errorf("migrate: the namespace's entry %s has more than %d bytes (delete it)", keycheck.Name, keycheck.MaxBytes)
	}
	if err != nil || stored == nil {
		return -1, err
	}
	by, refusal, err := m.openedBy(ctx, namespace, stored, func(err error) bool {
		return box.Refused(err) || errors.Is(err, wire.ErrNotSealed) || errors.Is(err, wire.ErrUnsupportedFormat)
	})
	if err == nil && by < 0 {
		err = fmt.Errorf("%w: the entry %s does not open: %w", ErrWrongKeys, keycheck.Name, refusal)
	}
	return by, err
}

// openedBy returns the index of the first of allKeys that opens a key check. If all refuse it, the index is -1, and refusal is the
// first refusal. An error is not about the key check.
func (m *migration) openedBy(ctx context.Context, namespace string, stored []byte, refuses func(err error) bool) (by int, refusal, err error) {
	for i, a := range m.allKeys() {
		c, err := keycheck.New(a, namespace)
		if err == nil {
			err = m.ask(ctx, func(ctx context.Context) error { return c.Open(ctx, stored) })
			switch {
			case err == nil:
				return i, nil, nil
			case refuses(err):
				refusal = cmp.Or(refusal, err)
				continue
			}
		}
		return -1, nil, fmt.Errorf("migrate: cannot open the entry sealcache.key-check, which tests the keys: %w", err)
	}
	return -1, refusal, nil
}

// openProof opens the entry of Config.Proof under Keys. An entry with a hidden name proves the PRF keys, too.
func (m *migration) openProof(ctx context.Context) error {
	space := m.target()
	if m.Operation == Unseal {
		space = m.From
	}
	key := m.Proof
	if m.Stored {
		var ok bool
		if key, ok = strings.CutPrefix(m.Proof, space.namespace()); !ok {
			return fmt.Errorf("%w: Config.Proof must be a full Redis key, which starts with the namespace", ErrConfig)
		}
	}
	var hidden []string
	if m.names != nil && !m.Stored {
		var err error
		if hidden, err = m.names.all(space.Namespace == m.target().Namespace, key); err != nil {
			return fmt.Errorf("%w: cannot compute the hidden name of the entry that Config.Proof names: %w", ErrConfig, err)
		}
	}
	for i, key := range append(hidden, key) {
		stored, err := m.get(ctx, space.namespace()+key, m.MaxValueBytes)
		if errors.Is(err, errTooLarge) {
			return fmt.Errorf("%w: the entry of Config.Proof is larger than Config.MaxValueBytes (name a smaller entry)", ErrConfig)
		}
		if err != nil {
			return err
		}
		h, n, ok := cachevalue.Header(stored)
		if !ok {
			continue
		}
		if err := m.openUnderKeys(ctx, space.Namespace, key, stored, n); err != nil {
			return err
		}
		if i < len(hidden) && h.Flags&wire.Hidden != 0 && m.names.to.Index(h.PRFKey) == i {
			m.namesProven.Store(true)
		}
		return nil
	}
	return fmt.Errorf("%w: the entry of Config.Proof is missing or not sealed (name a sealed one)", ErrConfig)
}

// openUnderKeys opens the value of the entry of Config.Proof.
func (m *migration) openUnderKeys(ctx context.Context, namespace, key string, stored []byte, n int) error {
	keys, err := cachevalue.NewKeys(namespace, m.Keys)
	if err != nil {
		return fmt.Errorf("migrate: cannot open the entry that Config.Proof names: %w", err)
	}
	err = m.ask(ctx, func(ctx context.Context) error {
		_, _, err := keys.Open(ctx, false, key, stored, n)
		return err
	})
	switch {
	case box.Refused(err):
		return fmt.Errorf("%w: the entry of Config.Proof does not open: %w", ErrWrongKeys, err)
	case err != nil:
		return fmt.Errorf("migrate: cannot open the entry that Config.Proof names: %w", err)
	}
	return nil
}

// ask repeats a question while the key service fails, or turns its data key away.
func (m *migration) ask(ctx context.Context, do func(ctx context.Context) error) error {
	var answer error
	err := m.walk.Retry(ctx, "open a value", func(ctx context.Context) error {
		answer = cachevalue.Ask(ctx, do)
		if errors.Is(answer, aead.ErrKeyServiceUnavailable) || errors.Is(answer, aead.ErrTooManyDataKeys) {
			return answer
		}
		return nil
	})
	if err != nil {
		return err
	}
	return answer
}

// get reads an entry of at most limit bytes. It is nil if there is none, and empty if it is not a string. At most one byte more is
// read, because an attacker may have planted a huge entry. Such an entry is an error, which wraps errTooLarge.
func (m *migration) get(ctx context.Context, name string, limit int) ([]byte, error) {
	var exists *redis.IntCmd
	value, err := rediswalk.RetryValue(ctx, m.walk.Log, "GETRANGE", func(ctx context.Context) ([]byte, error) {
		var part *redis.StringCmd
		err := m.servers.Pipelined(ctx, func(p redis.Pipeliner) {
			part, exists = p.GetRange(ctx, name, 0, int64(limit)), p.Exists(ctx, name)
		})
		return rediswalk.BytesOf(part.Val()), cmp.Or(err, part.Err(), exists.Err())
	})
	switch {
	case rediserr.Code(err) == "WRONGTYPE":
		return []byte{}, nil
	case err != nil:
		return nil, fmt.Errorf("migrate: cannot read an entry: %w", rediserr.Wrap(err))
	case len(value) > limit:
		return nil, fmt.Errorf("%w of %d bytes", errTooLarge, limit)
	case exists.Val() == 0:
		return nil, nil
	case len(value) == 0:
		return []byte{}, nil
	default:
		return value, nil
	}
}

var errTooLarge = errors.New("the entry is larger than the limit")

const (
	// firstScans, firstNames, firstValues and firstBytes bound how much of each master is tried before the first
	// write.
	firstScans  = 1000 // calls of SCAN, which name few where most of a database is outside the space
	firstNames  = 5000
	firstValues = 64
	firstBytes  = 1 << 20
)

// tryFirst opens sealed values among the first batches before anything is written. A key check proves keys only together
// with the data: a process with wrong keys may have made it in an empty namespace.
func (m *migration) tryFirst(ctx context.Context) error {
	if m.Operation == Unseal || m.IgnoreUnreadable && m.names == nil {
		return nil
	}
	var c first
	err := m.walk.Retry(ctx, "read a sample of sealed values to test the encryption keys", func(ctx context.Context) error {
		c = first{}
		return m.servers.EachMaster(ctx, func(ctx context.Context, node redis.Cmdable) error { return m.tryMaster(ctx, node, &c) })
	})
	switch {
	case err != nil:
		return fmt.Errorf("migrate: cannot read the sample of sealed values that tests the encryption keys: %w", rediserr.Wrap(err))
	case m.IgnoreUnreadable:
	case c.Opened > 0 || c.unopened() == 0:
		m.opened.Store(c.Opened > 0)
	case m.DryRun: // it changes nothing, and counts them
		m.warn(fmt.Sprintf("the real run would refuse to start: %s", c.refusedText()))
		m.opened.Store(true)
	default:
		return fmt.Errorf("%w: %s", ErrWrongKeys, c.refusedText())
	}
	return m.proveNames(&c)
}

// first counts the values that are tried before the first write.
type first struct {
	Counts
	notGiven    map[uint32]int64 // values by the id of the key that they name, and that is not given
	otherNames  int64            // that the PRF keys did not hide
	oneWayNames int64            // that may be under the PRF keys: only their ids say so
}

func refusedText(c *Counts) string {
	return fmt.Sprintf("the given encryption keys do not open the first %d sealed values in Redis", c.unopened())
}

// refusedText also names the key that most of the values need.
func (c *first) refusedText() string {
	text, most := refusedText(&c.Counts), int64(0)
	var id uint32
	for key, n := range c.notGiven {
		if n > most || n == most && key < id {
			id, most = key, n
		}
	}
	if most > 0 {
		text += fmt.Sprintf(": %d are sealed under key %d, which is not given (is its keyset missing?)", most, id)
	}
	return text
}

// tryMaster counts in c the sealed values that open and those that do not.
func (m *migration) tryMaster(ctx context.Context, node redis.Cmdable, c *first) error {
	cursor, tried, seen := uint64(0), 0, 0
	for range firstScans {
		names, next, err := node.Scan(ctx, cursor, m.walk.Pattern, int64(m.tuning.BatchSize)).Result()
		if err != nil {
			return err
		}
		if err := m.throttle.Entries(ctx, max(len(names)/4, 1)); err != nil { // a few bytes of each are read
			return err
		}
		located := m.located(names, new(Counts))
		seen += len(located)
		entries, err := m.sealedOnes(ctx, located)
		if err != nil {
			return err
		}
		entries = entries[:min(len(entries), firstValues-tried)]
		tried += len(entries)
		if err := eachGroup(entries, func(group []entry) error { return m.tryEntries(ctx, group, c) }); err != nil {
			return err
		}
		if cursor = next; cursor == 0 || tried == firstValues || seen >= firstNames {
			return nil
		}
	}
	return nil
}

// sealedOnes returns the entries that hold sealed values of moderate size.
func (m *migration) sealedOnes(ctx context.Context, entries []entry) ([]entry, error) {
	sizes, starts := make([]*redis.IntCmd, len(entries)), make([]*redis.StringCmd, len(entries))
	err := m.servers.Pipelined(ctx, func(p redis.Pipeliner) {
		for i := range entries {
			sizes[i] = p.StrLen(ctx, entries[i].name)
			starts[i] = p.GetRange(ctx, entries[i].name, 0, wire.MaxHeaderSize)
		}
	})
	if err != nil {
		return nil, err
	}
	var sealed []entry
	for i, e := range entries {
		start, err := starts[i].Bytes()
		e.size = sizes[i].Val()
		if _, _, ok := cachevalue.Header(start); err == nil && ok && e.size <= firstBytes {
			sealed = append(sealed, e)
		}
	}
	return sealed, nil
}

func (m *migration) tryEntries(ctx context.Context, entries []entry, c *first) error {
	values, err := m.servers.Read(ctx, namesOf(entries))
	if err != nil {
		return err
	}
	for i, old := range values {
		h, n, ok := cachevalue.Header(old)
		if !ok {
			continue // it has changed
		}
		o, err := m.open(ctx, entries[i].place, old, n, &c.Counts)
		if err != nil && !box.Refused(err) {
			return err
		}
		c.refused(err)
		if k := wire.KeyOf(old[n:]); box.NotGiven(err, k) {
			if c.notGiven == nil {
				c.notGiven = make(map[uint32]int64)
			}
			c.notGiven[k.ID]++
		}
		if err == nil && m.names != nil && h.Flags&wire.Hidden != 0 {
			if err := m.tryName(h, entries[i].key, o.plaintext, c); err != nil {
				return err
			}
		}
	}
	return nil
}

// tryName computes the hidden name of a value that opened. The id of a PRF key alone proves nothing: another keyset may
// have a key of the same id.
func (m *migration) tryName(h wire.Header, stored string, plaintext []byte, c *first) error {
	i := m.names.from.Index(h.PRFKey)
	switch {
	case i < 0:
		c.otherNames++
		return nil
	case h.Flags&wire.Named == 0:
		c.oneWayNames++
		return nil
	}
	labels, err := content.Labels(h, plaintext)
	if err != nil {
		return nil //nolint:nilerr // it opened, so a newer release may know it
	}
	hidden, err := m.names.from.AppendKey(nil, i, labels.Key)
	switch {
	case err != nil:
		return fmt.Errorf("migrate: cannot compute the hidden name of an entry: %w", err)
	case string(hidden) == stored:
		m.namesProven.Store(true)
	default:
		c.otherNames++
	}
	return nil
}
