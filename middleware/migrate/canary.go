package migrate

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/sealcache/sealcache/middleware/internal/cachevalue"
	"github.com/sealcache/sealcache/middleware/internal/rediswalk"
	"github.com/sealcache/sealcache/middleware/internal/wire"
)

// What is written under other keys than the application's, or bound to another namespace than its, is lost to it. What
// it has sealed itself tells: the runbook has it seal before anything is migrated.
const (
	// canaryMost is how many sealed entries a run meets before it is asked whether half of them have opened.
	canaryMost = 100
	// canaryNames bounds the names of one master that are looked at in search of sealed entries, canaryScanned those that
	// SCAN goes through, where few are in the space. Config.Rate makes that slower, not less.
	canaryNames   = 200_000
	canaryScanned = 500_000
	// canaryLooks is how many that are looked at count as one of Config.Rate: of each a few bytes are read.
	canaryLooks = 4
	// canaryBytes bounds the size of what is tried, unless there is nothing smaller.
	canaryBytes = 1 << 20
	// canarySample is how many are tried of all that were found, or up to twice as many; canaryKeys is how many keys, as
	// far as the entries name them, and canaryOfKey how many of each are tried besides.
	canarySample = 32
	canaryKeys   = 32
	canaryOfKey  = 2
	// canaryHead is how much of a sealed value is read to see what key it names.
	canaryHead = 1 << 10
)

// ErrWrongKeys says that of the sealed entries that were met none opens, or fewer than half: the keys are not the
// application's, or the namespace or prefix is not, or Config.Keys is a keyring where the application has an envelope. Or
// that Config.DeleteOld was asked for and nothing has opened under Config.Keys. See Config.IgnoreUnreadable.
// Report.Written tells whether anything was written before, which lies under these keys: unseal it with them, or delete it.
var ErrWrongKeys = errors.New("migrate: sealed entries were met and not one of them opens")

// canary tells whether the sealed entries of a space can be opened, by trying some.
type canary struct {
	what   string
	prefix string
	// key is that under which an entry is to open, and with what. It is not ok for a name that says nothing.
	key    func(stored string) (string, bool)
	opens  []*cachevalue.Sealer
	second []*cachevalue.Sealer // and if it does not open so, under second with secondKey
	other  func(stored string) string

	// What was found. What an earlier run has written under wrong keys may be most of all, and what a scan meets first, so
	// that entries are taken from everywhere, and by their keys.
	found  int
	every  int // found is in the sample
	sample []entry
	byKey  map[cachevalue.KeyName][]entry

	tried, opened         int // of the sample
	keysTried, keysOpened int
	underKeys             int // that opened under Config.Keys
}

// sing returns ErrWrongKeys if sealed entries of From, or of where names are moved to, can be found and none opens, or
// fewer than half do.
func (m *migration) sing(ctx context.Context) error {
	m.opened.Store(m.counts.Opened > 0)
	if m.IgnoreUnreadable || m.counts.Opened > 0 && m.counts.unopened() == 0 && (!m.DeleteOld || m.counts.OpenedUnderKeys > 0) {
		return nil
	}
	from := &canary{what: "From", prefix: m.From.stored(), opens: m.opens}
	from.key = func(stored string) (string, bool) {
		p, v := m.locate(stored)
		return p.key, v == nameTaken
	}
	if m.rebinds() && m.inPlace() {
		from.second = m.arrived
		from.other = func(stored string) string { p, _ := m.locate(stored); return p.toKey }
	}
	all := []*canary{from}
	if !m.inPlace() && m.Operation != Unseal && m.To.stored() != "" {
		to := &canary{what: "To", prefix: m.To.stored(), opens: m.arrived}
		to.key = func(stored string) (string, bool) {
			if _, v := m.locate(stored); v != nameForeign && v != nameArrived || !strings.HasPrefix(stored, to.prefix) {
				return "", false
			}
			return stored[len(m.To.namespace()):], true
		}
		all = append(all, to)
	}
	underKeys := m.counts.OpenedUnderKeys
	for _, c := range all {
		err := m.walk.Retry(ctx, "sealed entries to try the keys with", func(ctx context.Context) error {
			c.found, c.every, c.sample, c.byKey = 0, 1, nil, make(map[cachevalue.KeyName][]entry)
			return m.servers.EachMaster(ctx, func(ctx context.Context, node redis.Cmdable) error { return m.search(ctx, c, node) })
		})
		if err == nil {
			err = m.try(ctx, c)
		}
		if err != nil {
			return fmt.Errorf("migrate: try the keys: %w", rediswalk.WithoutNames(err))
		}
		if err := m.heard(c); err != nil {
			return err
		}
		underKeys += int64(c.underKeys)
	}
	if m.DeleteOld && m.Operation != Unseal && underKeys == 0 {
		return &explained{"migrate: no sealed entry was found that opens under Keys (-kek) and would show that they are the application's, and old entries are to be deleted: have it seal one first", ErrWrongKeys}
	}
	return nil
}

// heard judges what was tried.
func (m *migration) heard(c *canary) error {
	switch {
	case c.keysTried == 0:
		return nil
	case c.keysOpened == 0:
		return m.nothingOpens(c)
	case 2*c.opened < c.tried || 2*c.keysOpened < c.keysTried:
		return &explained{fmt.Sprintf("migrate: sealed entries were tried (%s), and fewer than half open: %d of %d taken from everywhere, and those under %d of %d keys: what opens may be what an earlier run wrote under wrong keys",
			c.what, c.opened, c.tried, c.keysOpened, c.keysTried), ErrWrongKeys}
	}
	m.opened.Store(true)
	if c.opened < c.tried || c.keysOpened < c.keysTried {
		m.walk.Mu.Lock()
		defer m.walk.Mu.Unlock()
		m.warnings = append(m.warnings, fmt.Sprintf("not all sealed entries open that were tried before (%s): %d of %d taken from everywhere did, and those under %d of %d keys; if an earlier run had other keys than the application's, see that these are the application's",
			c.what, c.opened, c.tried, c.keysOpened, c.keysTried))
	}
	return nil
}

// met looks at what a batch has met before it is written: while nothing has opened, the first sealed entry that does not
// ends the run.
func (m *migration) met(ctx context.Context, c *Counts) error {
	switch {
	case m.IgnoreUnreadable, c.Opened == 0 && c.unopened() == 0:
		return nil
	case c.Opened > 0:
		m.opened.Store(true)
		return nil
	case m.opened.Load():
		return nil
	}
	m.cancel(m.nothingOpens(&canary{what: "From"}))
	return context.Cause(ctx)
}

func (m *migration) nothingOpens(c *canary) error {
	text := ErrWrongKeys.Error() + " (" + c.what + "): other keys than the application's, another namespace or prefix, or a keyring where it has an envelope"
	if c.what == "From" && m.From.Namespace == "" && strings.Contains(m.From.Prefix, ":") {
		text += "; if what the prefix begins with is the application's namespace, give it as that"
	}
	return &explained{text, ErrWrongKeys}
}

type explained struct {
	text  string
	cause error
}

func (e *explained) Error() string { return e.text }
func (e *explained) Unwrap() error { return e.cause }

// search looks for sealed entries on one master.
func (m *migration) search(ctx context.Context, c *canary, node redis.Cmdable) error {
	cursor, looked, calls := uint64(0), 0, max(canaryScanned/m.tuning.BatchSize, 1)
	for range calls {
		names, next, err := node.Scan(ctx, cursor, rediswalk.Literal(c.prefix)+"*", int64(m.tuning.BatchSize)).Result()
		if err != nil {
			return err
		}
		if m.walk.Limiter != nil {
			if err := rediswalk.Wait(ctx, m.walk.Limiter, max(len(names)/canaryLooks, m.tuning.BatchSize/rediswalk.OthersPerName, 1)); err != nil {
				return err
			}
		}
		if err := m.lookAt(ctx, c, names); err != nil {
			return err
		}
		looked += len(names)
		if cursor = next; cursor == 0 || looked >= canaryNames {
			return nil
		}
	}
	return nil
}

// lookAt adds those of the names to what was found whose values begin as sealed ones do.
func (m *migration) lookAt(ctx context.Context, c *canary, names []string) error {
	asked := make([]string, 0, len(names))
	for _, name := range names {
		if _, ok := c.key(name); ok {
			asked = append(asked, name)
		}
	}
	starts, err := m.starts(ctx, asked, wire.HeaderSize)
	if err != nil {
		return err
	}
	sealed := asked[:0]
	for i, start := range starts {
		if _, _, ok := cachevalue.Header(start); ok {
			sealed = append(sealed, asked[i])
		}
	}
	heads, err := m.starts(ctx, sealed, canaryHead)
	if err != nil {
		return err
	}
	for i, head := range heads {
		if _, n, ok := cachevalue.Header(head); ok {
			c.add(entry{name: sealed[i]}, cachevalue.KeyOf(head[n:]))
		}
	}
	return nil
}

// starts are the first n bytes, or one more, of entries, none of those that are no strings.
func (m *migration) starts(ctx context.Context, names []string, n int64) ([][]byte, error) {
	if len(names) == 0 {
		return nil, nil
	}
	cmds := make([]*redis.StringCmd, len(names))
	err := m.servers.Pipelined(ctx, func(p redis.Pipeliner) {
		for i, name := range names {
			cmds[i] = p.GetRange(ctx, name, 0, n)
		}
	})
	if err != nil {
		return nil, err
	}
	starts := make([][]byte, len(names))
	for i, cmd := range cmds {
		if starts[i], err = cmd.Bytes(); err != nil && !redis.HasErrorPrefix(err, "WRONGTYPE") {
			return nil, err
		}
	}
	return starts, nil
}

// add keeps an entry of every key, and some from everywhere. SCAN names entries in no order.
func (c *canary) add(e entry, key cachevalue.KeyName) {
	if of, ok := c.byKey[key]; len(of) < canaryOfKey && (ok || len(c.byKey) < canaryKeys) {
		c.byKey[key] = append(of, e)
	}
	// Any nth, with an n that doubles whenever there are too many of them.
	if c.found%c.every == 0 {
		c.sample = append(c.sample, e)
	}
	if c.found++; len(c.sample) > 2*canarySample {
		for i := range canarySample + 1 {
			c.sample[i] = c.sample[2*i]
		}
		c.sample, c.every = c.sample[:canarySample+1], 2*c.every
	}
}

// try opens some of what was found.
func (m *migration) try(ctx context.Context, c *canary) error {
	sample, err := m.tryable(ctx, c.sample)
	if err != nil {
		return err
	}
	keys := make(map[cachevalue.KeyName]bool) // whether one has opened
	for _, e := range sample {
		err := m.tryOne(ctx, c, e, func(key cachevalue.KeyName, opened bool) {
			c.tried++
			if opened {
				c.opened++
			}
			keys[key] = keys[key] || opened
		})
		if err != nil {
			return err
		}
	}
	for key, entries := range c.byKey {
		if entries, err = m.tryable(ctx, entries); err != nil {
			return err
		}
		for _, e := range entries {
			if keys[key] {
				break
			}
			if err := m.tryOne(ctx, c, e, func(key cachevalue.KeyName, opened bool) { keys[key] = keys[key] || opened }); err != nil {
				return err
			}
		}
	}
	c.keysTried = len(keys)
	for _, opened := range keys {
		if opened {
			c.keysOpened++
		}
	}
	return nil
}

// tryable leaves the entries that are not too large, or the smallest if all are.
func (m *migration) tryable(ctx context.Context, entries []entry) (small []entry, err error) {
	err = m.walk.Retry(ctx, "sizes of entries to try the keys with", func(ctx context.Context) (err error) {
		small, err = m.measure(ctx, slices.Clone(entries), new(Counts))
		return err
	})
	slices.SortStableFunc(small, func(a, b entry) int { return cmp.Compare(a.size, b.size) })
	n := 0
	for n < len(small) && (n == 0 || small[n].size <= canaryBytes) {
		n++
	}
	return small[:n], err
}

// tryOne tries one entry, which may be gone or another by now.
func (m *migration) tryOne(ctx context.Context, c *canary, e entry, count func(key cachevalue.KeyName, opened bool)) error {
	return m.walk.Retry(ctx, "an entry to try the keys with", func(ctx context.Context) error {
		values, err := m.servers.Read(ctx, []string{e.name})
		if err != nil {
			return err
		}
		v := values[0]
		_, n, ok := cachevalue.Header(v)
		key, mine := c.key(e.name)
		if !ok || !mine {
			return nil
		}
		var sc scratch
		current := m.keys.sealed(v[n:])
		_, first, err := openBy(ctx, &sc, c.opens, current, key, v, n)
		if err != nil && cachevalue.Refused(err) && c.second != nil {
			_, first, err = openBy(ctx, &sc, c.second, current, c.other(e.name), v, n)
		}
		if err != nil && !cachevalue.Refused(err) {
			return err
		}
		if err == nil && first {
			c.underKeys++
		}
		count(cachevalue.KeyOf(v[n:]), err == nil)
		return nil
	})
}
