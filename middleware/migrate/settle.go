package migrate

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/redis/go-redis/v9"

	"github.com/sealcache/sealcache/internal/rediserr"
	"github.com/sealcache/sealcache/middleware/internal/box"
	"github.com/sealcache/sealcache/middleware/internal/cachevalue"
	"github.com/sealcache/sealcache/middleware/internal/content"
	"github.com/sealcache/sealcache/middleware/internal/rediswalk"
	"github.com/sealcache/sealcache/middleware/internal/wire"
)

// settle handles entries whose new name is taken. If this run knows the entry there as a copy, or as plaintext that it has left, and
// the original has another value or expiry since, the copy is deleted. Otherwise the entry there may open under its name, and the old name may be hidden too.
// Then the application or an earlier run has written it later, so the old entry is deleted. An entry with a plain name may
// be the newer one. It is deleted only if both hold the same value with the same expiry, and the entry is not split. It is also
// deleted if this batch has written its copy: what is under the new name has replaced that. An entry that a failover has brought back
// stays if both have changed since.
func (m *migration) settle(ctx context.Context, taken []renamed, c *Counts) (settled []renamed, changed []entry, err error) {
	taken, sizes, err := m.withoutHuge(ctx, taken, c)
	if err != nil {
		return nil, nil, err
	}
	err = rediswalk.Groups(len(taken), func(i int) int64 { return sizes[i] }, func(from, to int) error {
		s, e, err := m.settleGroup(ctx, taken[from:to], c)
		settled, changed = append(settled, s...), append(changed, e...)
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	return settled, changed, nil
}

// withoutHuge counts as conflicts the entries under whose new names are values that the run would not have written. They are not
// read, because an attacker may have planted huge ones. It returns the others, with the sizes of the values under their new names.
func (m *migration) withoutHuge(ctx context.Context, taken []renamed, c *Counts) (kept []renamed, sizes []int64, err error) {
	names := make([]string, len(taken))
	for i := range taken {
		names[i] = taken[i].to
	}
	all, err := rediswalk.Each(ctx, m.servers, names, func(p redis.Pipeliner, name string) *redis.IntCmd { return p.StrLen(ctx, name) })
	if err != nil {
		return nil, nil, err
	}
	for i, v := range taken {
		if all[i].Val() > int64(max(m.MaxValueBytes, len(v.plaintext))+maxSealing) {
			c.Conflicts++
			m.renaming.forget(v.name)
			continue
		}
		kept, sizes = append(kept, v), append(sizes, all[i].Val())
	}
	return kept, sizes, nil
}

func (m *migration) settleGroup(ctx context.Context, taken []renamed, c *Counts) (settled []renamed, changed []entry, err error) {
	plain := make([]moved, len(taken))
	for i := range taken {
		plain[i] = taken[i].moved
	}
	values, err := m.readCopies(ctx, taken)
	if err != nil {
		return nil, nil, err
	}
	expiries, err := m.expiries(ctx, plain)
	if err != nil {
		return nil, nil, err
	}
	split, err := m.split(ctx, taken)
	if err != nil {
		return nil, nil, err
	}
	var mine []copyOf
	var stale []*rediswalk.Call
	for i, stored := range values {
		v := taken[i]
		v.copied = notCopied
		if stored == nil && expiries[i] == -2 {
			changed = append(changed, m.original(v)) // it has just been deleted
			continue
		}
		supersedes, same, err := m.compare(ctx, &v, stored)
		if err != nil {
			return nil, nil, err
		}
		was, known := m.renaming.knows(v.name, stored)
		left := m.renaming.hasPlaintext(v.name, stored, expiries[i]) && (!same || expiries[i] != v.until())
		switch {
		case left, known && (!same || expiries[i] == was.expires && v.until() != was.until || split[i] && was.state == ownCopy):
			copied := value{old: stored}
			old, size := copied.expected()
			stale = append(stale, &rediswalk.Call{Keys: []string{v.to}, Args: []any{old, size, expiries[i]}})
			changed = append(changed, m.original(v))
		case same && m.renaming.delayed(&v):
			changed = append(changed, m.original(v))
		case m.isCopyOfPlain(&v, stored): // its batch looks for v, and then deletes the copy
			changed = append(changed, m.original(v))
		case split[i]:
			c.Conflicts++
			m.renaming.forget(v.name)
		case same && m.copies != nil && v.header != (wire.Header{}) && (v.prfKey >= 0 || expiries[i] == v.until()):
			mine = append(mine, copyOf{v, stored, expiries[i]})
		case supersedes && m.renaming.originalRestored(&v): // the application has changed both
			c.Conflicts++ // the record stays: another scan of the same run must not take it for an older entry
		case supersedes && (v.prfKey >= 0 || m.renaming.wrote(&v)) || same && expiries[i] == v.until():
			settled = append(settled, v)
		default:
			c.Conflicts++
			m.renaming.forget(v.name) // there may be many
		}
	}
	if err := m.dropCopies(ctx, stale); err != nil {
		return nil, nil, err
	}
	taken, again, err := m.takeOver(ctx, mine)
	if err != nil {
		return nil, nil, err
	}
	settled, changed = append(settled, taken...), append(changed, again...)
	dropped, err := m.dropOriginals(ctx, settled)
	if err != nil {
		return nil, nil, err
	}
	kept := settled[:0]
	for i, r := range dropped {
		switch v := settled[i]; r {
		case isRenamed:
			c.AlreadyDone++
			c.deleted(&v.moved)
			kept = append(kept, v)
		case isGone:
			c.Disappeared++
			m.renaming.forget(v.name)
		default:
			changed = append(changed, m.original(v))
		}
	}
	return kept, changed, nil
}

// copyOf is an entry whose new name holds a copy of it that this batch has not written.
type copyOf struct {
	renamed
	stored    []byte
	expiresAt int64 // under the new name
}

// takeOver replaces copies by those of this batch, before it deletes the originals. A copy may be of another run, which would
// take it back when it finds that the original is gone. The other run then finds other bytes, and leaves them. A copy of this run, whose
// write was not answered, stays its own copy, unless the application has given it another expiry.
func (m *migration) takeOver(ctx context.Context, copies []copyOf) (taken []renamed, changed []entry, err error) {
	if len(copies) == 0 {
		return nil, nil, nil
	}
	calls := make([]*rediswalk.Call, len(copies))
	for i := range copies {
		v := &copies[i]
		state := sharedCopy
		if known, _ := m.renaming.knows(v.name, v.stored); known.state == ownCopy && v.expiresAt == v.until() {
			state = ownCopy
		}
		m.renaming.know(&v.renamed, v.stored, v.expiresAt, state)
		m.renaming.knows(v.name, v.stored) // it is there, and does not arrive later
		v.copied = m.renaming.know(&v.renamed, v.next, v.expiresAt, state)
		was := value{old: v.stored}
		old, size := was.expected()
		calls[i] = &rediswalk.Call{Keys: []string{v.to}, Args: []any{old, size, v.next, 0}}
	}
	err = m.servers.RunOnce(ctx, m.scripts.swap, calls)
	var unanswered []renamed // they may be replaced
	for i, call := range calls {
		results, failed := call.Cmd.Int64Slice()
		switch {
		case failed != nil:
			if !rediserr.IsReply(failed) {
				unanswered = append(unanswered, copies[i].renamed)
			}
			err = errors.Join(err, fmt.Errorf("migrate: cannot rename entries: %w", rediserr.Wrap(failed)))
		case len(results) == 1 && results[0] == 1:
			m.renaming.answered(&copies[i].renamed, true)
			taken = append(taken, copies[i].renamed)
		default:
			m.renaming.answered(&copies[i].renamed, false)
			changed = append(changed, m.original(copies[i].renamed))
		}
	}
	var stored [][]byte
	if err == nil {
		stored, err = m.readCopies(ctx, taken)
	}
	if err != nil {
		_, back := m.staleCopies(ctx, append(taken, unanswered...))
		_ = m.dropCopies(ctx, back)
		return nil, nil, err
	}
	kept := taken[:0]
	for i, v := range taken {
		if bytes.Equal(stored[i], v.next) {
			kept = append(kept, v)
		} else {
			changed = append(changed, m.original(v))
		}
	}
	return kept, changed, nil
}

// compare reports whether a stored value is the application's entry under the new name of v, and whether it holds the value
// of v.
func (m *migration) compare(ctx context.Context, v *renamed, stored []byte) (supersedes, same bool, err error) {
	if v.header == (wire.Header{}) { // the new name is plain
		return false, stored != nil && bytes.Equal(stored, v.plaintext), nil
	}
	h, n, ok := cachevalue.Header(stored)
	if !ok || h.Flags&wire.Hidden == 0 || h.PRFKey != v.header.PRFKey {
		return false, false, nil
	}
	plaintext, _, err := m.arrived.Open(ctx, !m.present.names(stored[n:]), v.toKey, stored, n)
	switch {
	case box.Refused(err):
		return false, false, nil
	case err != nil:
		return false, false, fmt.Errorf("migrate: cannot decrypt the value that Redis has under the new name of an entry: %w", err)
	}
	labels, err := content.Labels(h, plaintext)
	if err != nil || h.Flags&wire.Named != 0 && labels.Key != v.appKey {
		return false, false, nil //nolint:nilerr // not an entry of the application
	}
	return true, h == v.header && bytes.Equal(plaintext, v.plaintext), nil
}

// readCopies reads entries under their new names. In a Cluster, their replicas have them and their tags then.
func (m *migration) readCopies(ctx context.Context, moves []renamed) ([][]byte, error) {
	names := make([]string, len(moves))
	var tags []rediswalk.Member
	for i := range moves {
		v := &moves[i]
		names[i] = v.to
		for _, tag := range v.tags {
			set, err := m.newTagSet(tag)
			if err != nil {
				return nil, err
			}
			tags = append(tags, rediswalk.Member{Set: set, Name: v.to, Until: v.until()})
		}
	}
	return m.readBack(ctx, names, tags)
}
