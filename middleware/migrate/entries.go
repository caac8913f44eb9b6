package migrate

import (
	"context"
	"fmt"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/sealcache/sealcache/internal/names"
	"github.com/sealcache/sealcache/internal/rediserr"
	"github.com/sealcache/sealcache/middleware/internal/rediswalk"
	"github.com/sealcache/sealcache/middleware/internal/wire"
)

const (
	// wholeBytes is how much of a value is read before its size is known. Most values are shorter. wholeNames are read at a
	// time, two megabytes at most, beyond rediswalk.GroupBytes.
	wholeBytes = 8 << 10
	wholeNames = 256
	// scriptEntries and scriptBytes bound one call of a script.
	scriptEntries = 64
	scriptBytes   = 256 << 10
	// tailBytes is how much of the end of a sealed value identifies it, together with its length: an authentication tag.
	// Its start says little, because all values under one data key share it.
	tailBytes = 16
)

const tagPrefix = names.TagSets

// entry is one entry of a batch.
type entry struct {
	place
	name string
	size int64
}

// located sorts the names of a batch by their form, and returns those to look at.
func (m *migration) located(names []string, c *Counts) []entry {
	entries := make([]entry, 0, len(names))
	for _, name := range names {
		p, v := m.placeOf(name)
		switch v {
		case nameOutside:
			continue
		case nameReserved:
			c.Reserved++
		case nameExcluded:
			c.Excluded++
		case nameArrived:
			c.AlreadyDone++
		case nameMovesAgain:
			c.WouldBeMovedAgain++
		case nameTaken:
			entries = append(entries, entry{place: p, name: name})
		}
		c.Seen++
	}
	return entries
}

// measure asks for the sizes of entries, and returns those that are strings and not too large.
func (m *migration) measure(ctx context.Context, entries []entry, c *Counts) ([]entry, error) {
	cmds, err := rediswalk.Each(ctx, m.servers, namesOf(entries), func(p redis.Pipeliner, name string) *redis.IntCmd { return p.StrLen(ctx, name) })
	if err != nil {
		return nil, err
	}
	var others []string
	kept := entries[:0]
	for i, cmd := range cmds {
		e := entries[i]
		n, err := cmd.Result()
		switch {
		case rediserr.Code(err) == "WRONGTYPE":
			others = append(others, e.name)
		case err != nil:
			return nil, rediswalk.CallError("STRLEN", err)
		case n > int64(m.MaxValueBytes):
			c.TooLarge++
		default:
			e.size = n
			kept = append(kept, e)
		}
	}
	strings, err := m.countTypes(ctx, others, c)
	c.KeptChanging += int64(len(strings)) // they were of another type a moment ago
	return kept, err
}

// countTypes counts entries by their types, and returns the positions of those that are strings after all.
func (m *migration) countTypes(ctx context.Context, names []string, c *Counts) (isString []int, err error) {
	kinds, err := m.servers.Kinds(ctx, names)
	if err != nil {
		return nil, err
	}
	for i, kind := range kinds {
		switch {
		case kind == "none":
			c.Disappeared++
		case kind == "string":
			isString = append(isString, i)
		case kind == "set" && strings.HasPrefix(names[i], tagPrefix):
			c.other("tag set", 1)
		default:
			c.other(kind, 1)
		}
	}
	return isString, nil
}

// readShort reads the values of entries that are shorter than wholeBytes, and returns the other entries too.
func (m *migration) readShort(ctx context.Context, entries []entry, c *Counts) (short []entry, values [][]byte, long []entry, err error) {
	cmds, err := rediswalk.Each(ctx, m.servers, namesOf(entries), func(p redis.Pipeliner, name string) *redis.StringCmd {
		return p.GetRange(ctx, name, 0, wholeBytes-1)
	})
	if err != nil {
		return nil, nil, nil, err
	}
	short, values = make([]entry, 0, len(entries)), make([][]byte, 0, len(entries))
	var others []entry // of another type, empty, or missing
	var names []string
	for i, cmd := range cmds {
		e := entries[i]
		text, err := cmd.Result()
		switch {
		case rediserr.Code(err) == "WRONGTYPE", err == nil && text == "":
			others, names = append(others, e), append(names, e.name)
		case err != nil:
			return nil, nil, nil, rediswalk.CallError("GETRANGE", err)
		case len(text) >= wholeBytes:
			long = append(long, e)
		case len(text) > m.MaxValueBytes:
			c.TooLarge++
		default:
			short, values = append(short, e), append(values, rediswalk.BytesOf(text))
		}
	}
	empty, err := m.countTypes(ctx, names, c)
	for _, i := range empty {
		// If it was written in the meantime, it is not swapped but read again.
		short, values = append(short, others[i]), append(values, []byte{})
	}
	return short, values, long, err
}

// inPlaceBatch changes the values of a batch under their names.
func (m *migration) inPlaceBatch(ctx context.Context, names []string) (*Counts, error) {
	c := new(Counts)
	entries := m.located(names, c)
	var sc scratch
	var short []entry
	var values [][]byte
	bytes := 0
	for len(entries) > 0 {
		n := min(len(entries), wholeNames)
		some, of, long, err := m.readShort(ctx, entries[:n], c)
		if err != nil {
			return nil, err
		}
		entries = entries[n:]
		short, values = append(short, some...), append(values, of...)
		for _, v := range of {
			bytes += len(v)
		}
		// Groups are large, because values under one data key are opened together.
		if bytes >= rediswalk.GroupBytes || len(entries) == 0 {
			if err := m.inPlaceEntries(ctx, &sc, short, values, c); err != nil {
				return nil, err
			}
			short, values, bytes = nil, nil, 0
		}
		if long, err = m.measure(ctx, long, c); err != nil {
			return nil, err
		}
		if err := eachGroup(long, func(group []entry) error { return m.inPlaceEntries(ctx, &sc, group, nil, c) }); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// inGroups returns the work of a batch that changes entries in groups.
func (m *migration) inGroups(change func(ctx context.Context, sc *scratch, group []entry, c *Counts) error) func(context.Context, []string) (*Counts, error) {
	return func(ctx context.Context, names []string) (*Counts, error) {
		c := new(Counts)
		entries, err := m.measure(ctx, m.located(names, c), c)
		if err != nil {
			return nil, err
		}
		var sc scratch
		return c, eachGroup(entries, func(group []entry) error { return change(ctx, &sc, group, c) })
	}
}

// untilDone calls change until all entries of the group are done, or some have changed too often. change returns the entries
// that had changed when they were to be written.
func (m *migration) untilDone(group []entry, c *Counts, change func(group []entry) ([]entry, error)) error {
	for attempt := 1; len(group) > 0; attempt++ {
		changed, err := change(group)
		if err != nil {
			return err
		}
		if attempt == m.tuning.Attempts {
			c.KeptChanging += int64(len(changed))
			return nil
		}
		c.Retried += int64(len(changed))
		group = changed
	}
	return nil
}

// inPlaceEntries changes the values of entries under their names. values are their contents, nil to read them.
func (m *migration) inPlaceEntries(ctx context.Context, sc *scratch, group []entry, values [][]byte, c *Counts) error {
	return m.untilDone(group, c, func(group []entry) (changed []entry, err error) {
		if values == nil {
			if values, err = m.servers.Read(ctx, namesOf(group)); err != nil {
				return nil, err
			}
		}
		changed, err = m.inPlaceGroup(ctx, sc, group, values, c)
		values = nil
		return changed, err
	})
}

// inPlaceGroup returns the entries that had changed when they were to be written.
func (m *migration) inPlaceGroup(ctx context.Context, sc *scratch, group []entry, values [][]byte, c *Counts) ([]entry, error) {
	if err := m.prepare(ctx, sc, values); err != nil {
		return nil, err
	}
	var writes []swap
	err := m.visit(ctx, len(values), func(i int) (place, []byte) { return group[i].place, values[i] }, func(i int) error {
		if values[i] == nil {
			c.Disappeared++
			return nil
		}
		c.BytesRead += int64(len(values[i]))
		v := value{old: values[i]}
		verdict, err := m.transform(ctx, sc, group[i].place, &v, c)
		switch {
		case err != nil:
			return err
		case verdict != toWrite:
			c.leave(verdict)
		case m.DryRun:
			if v.end > 0 {
				err = m.proveExpiry(ctx)
			}
			c.written(&v, len(v.old))
			return err
		default:
			writes = append(writes, swap{entry: group[i], value: v})
		}
		return nil
	})
	if err == nil {
		err = m.checkOpened(ctx, c)
	}
	if err != nil {
		return nil, err
	}
	return m.write(ctx, writes, c)
}

// checkOpened is called before a batch is written. If nothing has proved the keys and nothing has opened yet, the first
// batch whose sealed values are all refused ends the run.
func (m *migration) checkOpened(ctx context.Context, c *Counts) error {
	switch {
	case m.IgnoreUnreadable || m.provenBy != "" || m.DryRun, c.Opened == 0 && c.unopened() == 0:
		return nil
	case c.Opened > 0:
		m.opened.Store(true)
		return nil
	case m.opened.Load():
		return nil
	}
	m.cancel(fmt.Errorf("%w: %s", ErrWrongKeys, refusedText(c)))
	return context.Cause(ctx)
}

// prepare waits until the values may be read and written, and makes room for their sealed forms.
func (m *migration) prepare(ctx context.Context, sc *scratch, values [][]byte) error {
	need, bytes := 0, 0
	for _, v := range values {
		need += m.seals.Size(len(v))
		bytes += len(v)
	}
	if cap(sc.arena) < need || cap(sc.arena) > 4*max(need, rediswalk.GroupBytes) {
		sc.arena = make([]byte, 0, need)
	}
	sc.arena = sc.arena[:0]
	return m.throttle.Bytes(ctx, 2*bytes)
}

// swap is one entry to be written.
type swap struct {
	entry
	value
}

// expected returns the bytes with which a script compares an entry: a whole plaintext value, or length and end of a
// sealed one.
func (v *value) expected() (old []byte, size int) {
	if !wire.IsSealed(v.old) || len(v.old) <= tailBytes {
		return v.old, -1
	}
	return v.old[len(v.old)-tailBytes:], len(v.old)
}

// write swaps values, and returns the entries that have changed in the meantime.
func (m *migration) write(ctx context.Context, writes []swap, c *Counts) ([]entry, error) {
	most := scriptEntries
	if m.servers.Clustered() {
		most = 1 // keys of one call must share a slot
	}
	var calls []*rediswalk.Call
	bytes, growth := 0, int64(0)
	for i := range writes {
		w := &writes[i]
		old, size := w.expected()
		if n := len(calls); n == 0 || len(calls[n-1].Keys) >= most || bytes+len(old)+len(w.next) > scriptBytes {
			calls = append(calls, new(rediswalk.Call))
			bytes = 0
		}
		last := calls[len(calls)-1]
		last.Keys = append(last.Keys, w.name)
		last.Args = append(last.Args, old, size, w.next, w.end)
		bytes += len(old) + len(w.next)
		growth += int64(len(w.next) - len(w.old))
	}
	if len(writes) > 0 {
		if err := m.admit(ctx, growth); err != nil {
			return nil, err
		}
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := m.servers.Run(ctx, m.scripts.swap, calls); err != nil {
		m.wrote.Add(int64(len(writes)))
		return nil, err
	}
	var changed []entry
	i := 0
	for _, call := range calls {
		results, err := call.Cmd.Int64Slice()
		if err != nil {
			return nil, fmt.Errorf("migrate: cannot write entries: %w", rediserr.Wrap(err))
		}
		if len(results) != len(call.Keys) {
			return nil, fmt.Errorf("migrate: cannot write entries: Redis returned %d results for %d entries", len(results), len(call.Keys))
		}
		for _, r := range results {
			w := &writes[i]
			i++
			switch r {
			case 1:
				c.written(&w.value, len(w.old))
				m.wrote.Add(1)
			case -1:
				c.Disappeared++
			default:
				changed = append(changed, w.entry)
			}
		}
	}
	return changed, nil
}

// eachGroup calls f for parts of the entries whose values fit into memory together.
func eachGroup(entries []entry, f func(group []entry) error) error {
	return rediswalk.Groups(len(entries), func(i int) int64 { return entries[i].size }, func(from, to int) error { return f(entries[from:to:to]) })
}

func namesOf(entries []entry) []string {
	names := make([]string, len(entries))
	for i := range entries {
		names[i] = entries[i].name
	}
	return names
}
