package migrate

import (
	"bytes"
	"context"
	"fmt"

	"github.com/sealcache/sealcache/internal/rediscmd"
	"github.com/sealcache/sealcache/internal/rediserr"
	"github.com/sealcache/sealcache/middleware/internal/rediswalk"
)

// The results of renameSource, besides those of swapSource.
const (
	isRenamed  = 1
	hasChanged = 0
	isGone     = -1
	isTaken    = -2
	isSplit    = -3 // the application has the entry under another hidden name
)

// rename gives entries their new names, and returns those that have changed in the meantime. The application may write to
// both names. It looks under each PRF key, and an entry under the primary one is newer than one under another.
//
//   - Tags get the new name first, because an entry must not be without its tags.
//   - On a single node one script moves the entry. In a Cluster the names are on different nodes: the new entry is written
//     if its name is free. When its replicas have it, the old one is deleted if it still holds what was read. If it does not,
//     the application has changed or deleted it, and the new entry is deleted again. A run that is killed in between leaves
//     both. The next run deletes the old one.
//   - If the new name is taken, see settle.
//   - An entry with a plain name keeps it if the application has created one under another hidden name: see otherNames.
func (m *migration) rename(ctx context.Context, moves []renamed, c *Counts) ([]entry, error) {
	if len(moves) == 0 {
		return nil, nil
	}
	if m.DryRun {
		for i := range moves {
			if len(moves[i].tags) > 0 {
				if err := m.proveTags(ctx); err != nil {
					return nil, err
				}
			}
			m.countRenamed(&moves[i], c)
		}
		return nil, nil
	}
	growth := int64(0)
	for i := range moves {
		growth += int64(len(moves[i].next) + len(moves[i].to))
	}
	if err := m.admit(ctx, growth); err != nil {
		return nil, err
	}
	write := m.renameAtOnce
	if m.servers.Clustered() {
		write = m.renameAcross
		var err error
		if moves, err = m.withoutSplit(ctx, moves, c); err != nil {
			return nil, err
		}
	}
	if err := m.tag(ctx, moves); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	results, err := write(ctx, moves)
	if err != nil {
		return nil, err
	}
	var changed []entry
	var taken, done []renamed
	for i, r := range results {
		v := moves[i]
		switch r {
		case isRenamed:
			m.countRenamed(&v, c)
			done = append(done, v)
		case isGone:
			c.Disappeared++
			m.renaming.forget(v.name)
		case isTaken:
			taken = append(taken, v)
		case isSplit:
			c.Conflicts++
		default:
			changed = append(changed, m.original(v))
		}
	}
	settled, again, err := m.settle(ctx, taken, c)
	if err != nil {
		return nil, err
	}
	return append(changed, again...), m.untag(ctx, append(done, settled...))
}

func (m *migration) countRenamed(v *renamed, c *Counts) {
	c.written(&v.value, len(v.name)+len(v.old)-len(v.to))
	c.Renamed++
}

// original is the entry as the scan found it.
func (m *migration) original(v renamed) entry {
	p, _ := m.placeOf(v.name)
	return entry{place: p, name: v.name, size: v.size}
}

// renameAtOnce moves entries within one node.
func (m *migration) renameAtOnce(ctx context.Context, moves []renamed) ([]int64, error) {
	calls := make([]*rediswalk.Call, len(moves))
	for i := range moves {
		v := &moves[i]
		old, size := v.expected()
		others, err := m.otherNames(v)
		if err != nil {
			return nil, err
		}
		keys := append([]string{v.name, v.to}, others...)
		calls[i] = &rediswalk.Call{Keys: keys, Args: []any{old, size, v.expires, v.next, v.until()}}
	}
	results, err := m.results(ctx, m.scripts.rename, calls)
	if err != nil {
		m.wrote.Add(int64(len(moves)))
	}
	for _, r := range results {
		if r == isRenamed {
			m.wrote.Add(1)
		}
	}
	return results, err
}

// renameAcross moves entries between nodes.
func (m *migration) renameAcross(ctx context.Context, moves []renamed) ([]int64, error) {
	plain := make([]moved, len(moves))
	for i := range moves {
		plain[i] = moves[i].moved
		plain[i].expires = moves[i].until()
		moves[i].copied = m.renaming.know(&moves[i], moves[i].next, plain[i].expires, ownCopy)
	}
	err := m.writeNew(ctx, plain)
	results := make([]int64, len(moves))
	var copied []renamed
	var of []int
	for i := range plain {
		if !plain[i].lost {
			m.renaming.answered(&moves[i], plain[i].written)
		}
		if results[i] = isTaken; plain[i].written {
			copied, of = append(copied, moves[i]), append(of, i)
		}
	}
	if err == nil {
		copied, of, err = m.takeBackEarly(ctx, copied, of, results)
	}
	if err != nil {
		m.takeBack(ctx, copied)
		return nil, err
	}
	stored, err := m.readCopies(ctx, copied)
	if err != nil {
		m.takeBack(ctx, copied)
		return nil, err
	}
	confirmed, at := copied[:0], of[:0]
	for j, i := range of {
		switch {
		case stored[j] == nil: // a failover has lost it, or the application has deleted it
			results[i] = hasChanged
		case m.renaming.delayed(&moves[i]):
			results[i] = hasChanged
		case bytes.Equal(stored[j], moves[i].next):
			confirmed, at = append(confirmed, moves[i]), append(at, i)
		}
	}
	dropped, err := m.dropOriginals(ctx, confirmed)
	if err != nil {
		return nil, err
	}
	for j, i := range at {
		results[i] = dropped[j]
	}
	return results, nil
}

// results runs a script for each call, and returns the numbers that the script returned. A lost reply is an error: the second
// answer of a script that has deleted an entry is that the application has deleted it.
func (m *migration) results(ctx context.Context, script rediscmd.Script, calls []*rediswalk.Call) ([]int64, error) {
	if err := m.servers.RunOnce(ctx, script, calls); err != nil {
		return nil, err
	}
	results := make([]int64, len(calls))
	for i, call := range calls {
		var err error
		if results[i], err = call.Cmd.Int64(); err != nil {
			return nil, fmt.Errorf("migrate: cannot rename entries: %w", rediserr.Wrap(err))
		}
	}
	return results, nil
}
