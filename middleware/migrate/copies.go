package migrate

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/sealcache/sealcache/internal/rediserr"
	"github.com/sealcache/sealcache/middleware/internal/rediswalk"
	"github.com/sealcache/sealcache/middleware/internal/wire"
)

// takeBackEarly deletes copies whose originals have changed or gone since they were read, and those of entries that are split
// now. So a reader does not find them while they wait for their replicas. It sets the results of these entries, and returns the
// others.
func (m *migration) takeBackEarly(ctx context.Context, copied []renamed, of []int, results []int64) ([]renamed, []int, error) {
	split, err := m.split(ctx, copied)
	if err != nil {
		return copied, of, err
	}
	found, back := m.staleCopies(ctx, copied)
	left, at := copied[:0], of[:0]
	for j, v := range copied {
		if split[j] && v.copied == ownCopy {
			m.renaming.recordEvent(&v, originalChanged)
			back, found[j] = append(back, m.dropCopy(&v)), hasChanged // the next attempt counts it
		}
		if v.copied == staleCopy {
			results[of[j]] = found[j]
		} else {
			left, at = append(left, v), append(at, of[j])
		}
	}
	return left, at, m.dropCopies(ctx, back)
}

// look returns hasChanged or isGone for entries that are not as they were read. A master that does not answer does not keep the
// others from it.
func (m *migration) look(ctx context.Context, moves []renamed) []int64 {
	const same = 1
	calls := originalCalls(moves)
	_ = m.lasting.Run(ctx, m.scripts.look, calls)
	found := make([]int64, len(calls))
	for i, call := range calls {
		var err error
		if found[i], err = call.Cmd.Int64(); err != nil {
			found[i] = same
		}
	}
	return found
}

// staleCopies looks at the originals of copies. It returns the answers, and calls that delete the stale copies.
func (m *migration) staleCopies(ctx context.Context, moves []renamed) (found []int64, back []*rediswalk.Call) {
	found = m.look(ctx, moves)
	for i, n := range found {
		v := &moves[i]
		if m.renaming.recordEvent(v, originalEvent(n)); v.copied == staleCopy {
			back = append(back, m.dropCopy(v))
		}
	}
	return found, back
}

// dropOriginals deletes entries that have not changed since they were read, and returns the answers. It deletes the copies that
// are stale by these answers: see copyState. Each master's answers count, although another master does not answer. If an
// answer is lost, the deletion may not have arrived, so it is sent again. A copy must not stay next to an original that the
// application may change. In a Cluster, the replicas have the deletions when it returns.
func (m *migration) dropOriginals(ctx context.Context, moves []renamed) ([]int64, error) {
	calls := originalCalls(moves)
	err := failure(m.lasting.RunOnce(ctx, m.scripts.drop, calls), calls)
	results := make([]int64, len(moves))
	var back []*rediswalk.Call
	var deleted []int
	answered := func(v *renamed, n int64) {
		if n == isRenamed {
			m.renaming.recordEvent(v, deletionSent)
			return
		}
		m.renaming.recordEvent(v, originalEvent(n))
		switch {
		case v.copied == staleCopy:
			back = append(back, m.dropCopy(v))
		case n == isGone:
			if m.Operation == Unseal {
				m.renaming.stays(v)
			}
			m.renaming.forget(v.name)
		}
	}
	var refused, unanswered []renamed
	for i, call := range calls {
		v := &moves[i]
		n, failed := call.Cmd.Int64()
		results[i] = n
		switch {
		case failed == nil:
			answered(v, n)
			if n == isRenamed {
				deleted = append(deleted, i)
			}
		case rediserr.IsReply(failed):
			refused = append(refused, *v)
		default:
			m.renaming.recordEvent(v, deletionSent)
			unanswered = append(unanswered, *v)
		}
	}
	m.takeBack(ctx, refused)
	again := originalCalls(unanswered)
	_ = m.lasting.Run(ctx, m.scripts.drop, again) // err repeats the batch
	for i, call := range again {
		if n, failed := call.Cmd.Int64(); failed == nil {
			answered(&unanswered[i], n)
		} else if m.Operation == Unseal {
			m.leavePlaintext(unanswered[i : i+1])
		}
	}
	if err = errors.Join(err, m.dropCopies(ctx, back)); err != nil {
		return nil, err
	}
	return results, m.confirmDeletions(ctx, moves, deleted, results)
}

// confirmDeletions waits until the replicas have the deletions of originals. Then no failover brings them back, and their entries
// are finished. It sets the results of originals that are there again. The batch reads them once more while it knows their copies.
func (m *migration) confirmDeletions(ctx context.Context, moves []renamed, deleted []int, results []int64) error {
	names := make([]string, len(deleted))
	for j, i := range deleted {
		names[j] = moves[i].name
	}
	stored := make([][]byte, len(names))
	if m.copies != nil && len(names) > 0 {
		within := m.tuning.CleanupTimeout
		if ctx.Err() == nil {
			within = max(within, 2*m.tuning.ConfirmFor)
		}
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), within)
		defer cancel()
		var err error
		if stored, err = m.copies.Read(ctx, names, nil); err != nil {
			return fmt.Errorf("migrate: cannot confirm that the old entries are deleted: %w", err)
		}
	}
	for j, i := range deleted {
		if stored[j] == nil {
			m.renaming.forget(moves[i].name)
		} else {
			results[i] = hasChanged
		}
	}
	return nil
}

// dropCopies deletes copies. If it cannot delete one, the batch is repeated, and claims remember the copy. With Unseal it does not
// try again at once: the plaintext can belong to the application by then.
func (m *migration) dropCopies(ctx context.Context, calls []*rediswalk.Call) error {
	if m.Operation != Unseal {
		return failure(m.lasting.Run(ctx, m.scripts.drop, calls), calls)
	}
	err := failure(m.lasting.RunOnce(ctx, m.scripts.drop, calls), calls)
	if err != nil {
		m.leavesPlaintext.Store(true)
	}
	for _, call := range calls {
		switch failed := call.Cmd.Err(); {
		case failed == nil:
			m.renaming.dropped(call)
		case !rediserr.IsReply(failed):
			m.renaming.delays(call)
		}
	}
	return err
}

// originalCalls are the calls of lookSource or dropSource for entries.
func originalCalls(moves []renamed) []*rediswalk.Call {
	calls := make([]*rediswalk.Call, len(moves))
	for i := range moves {
		calls[i] = moves[i].originalCall(moves[i].expires)
	}
	return calls
}

// failure returns the first error of calls whose pipelines returned err.
func failure(err error, calls []*rediswalk.Call) error {
	for _, call := range calls {
		if failed := call.Cmd.Err(); failed != nil && err == nil {
			err = fmt.Errorf("migrate: cannot rename entries: %w", rediserr.Wrap(failed))
		}
	}
	return err
}

// dropCopy is the call that deletes a copy, if it is still as this run wrote it. Plaintext does not tell whose entry it is, so its
// expiry has to be that of the copy, too.
func (m *migration) dropCopy(v *renamed) *rediswalk.Call {
	written := value{old: v.next}
	next, size := written.expected()
	call := &rediswalk.Call{Keys: []string{v.to}, Args: []any{next, size}}
	if v.header == (wire.Header{}) {
		call.Args = append(call.Args, v.until())
		m.renaming.recordPlaintext(v) // if this fails
	}
	return call
}

// takeBack deletes own copies after their write or their confirmation failed, or the deletions of their originals were refused. If
// a copy stayed, the application could change or delete the original, and a later run would keep the copy. Plaintext may belong to
// the application: it is deleted only if the original has changed. The next attempt or the end of the run finds copies that stay.
func (m *migration) takeBack(ctx context.Context, copied []renamed) {
	back := m.renaming.copiesOf(copied)
	if m.Operation == Unseal {
		_, back = m.staleCopies(ctx, copied)
		m.leavePlaintext(copied)
	}
	_ = m.dropCopies(ctx, back)
}

// leavePlaintext records the copies of Unseal that are left.
func (m *migration) leavePlaintext(copied []renamed) {
	for i := range copied {
		if v := &copied[i]; v.copied != staleCopy {
			m.renaming.recordPlaintext(v)
			m.leavesPlaintext.Store(true)
		}
	}
}

// warnOfPlaintext counts the plaintext of claims.unsure that is there.
func (m *migration) warnOfPlaintext(ctx context.Context) error {
	unsure := m.renaming.doubts()
	left := 0
	err := m.walk.Retry(ctx, "count plaintext that the application has deleted", func(ctx context.Context) error {
		entries := make([]entry, 0, len(unsure))
		for p := range unsure {
			entries = append(entries, entry{name: p.name})
		}
		slices.SortFunc(entries, func(a, b entry) int { return strings.Compare(a.name, b.name) })
		entries = slices.Compact(entries)
		sizes, err := rediswalk.Each(ctx, m.servers, namesOf(entries), func(p redis.Pipeliner, name string) *redis.IntCmd { return p.StrLen(ctx, name) })
		if err != nil {
			return err
		}
		left = 0
		return rediswalk.Groups(len(entries), func(i int) int64 { return sizes[i].Val() }, func(from, to int) error {
			there, _, err := m.readWithExpiry(ctx, entries[from:to], new(Counts))
			for _, v := range there {
				if unsure[plaintextAt{v.name, plainVersion(v.old, v.expires)}] {
					left++
				}
			}
			return err
		})
	})
	if err == nil {
		m.renaming.counted()
		m.warnOfLeft(left)
	}
	return err
}

// warnOfLeft warns of plaintext of claims.unsure.
func (m *migration) warnOfLeft(n int) {
	if n > 0 {
		m.warn(fmt.Sprintf("%d plaintext entries may be left in Redis, although the application has deleted them (see docs/hiding.md)", n))
	}
}
