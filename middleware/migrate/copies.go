package migrate

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/sealcache/sealcache/internal/rediserr"
	"github.com/sealcache/sealcache/middleware/internal/rediswalk"
	"github.com/sealcache/sealcache/middleware/internal/wire"
)

// takeBackEarly deletes copies whose originals have changed or gone since they were read. So a reader does not find them
// while they wait for their replicas. It sets the results of these entries, and returns the others.
func (m *migration) takeBackEarly(ctx context.Context, copied []renamed, of []int, results []int64) ([]renamed, []int, error) {
	var back []*rediswalk.Call
	left, at := copied[:0], of[:0]
	for j, n := range m.look(ctx, copied) {
		v, i := copied[j], of[j]
		if m.isStale(&v, n) {
			results[i] = n
			back = append(back, dropCopy(&v))
		} else {
			left, at = append(left, v), append(at, i)
		}
	}
	return left, at, m.dropCopies(ctx, back)
}

// isStale reports whether a copy must not stay, by what a script has found at its original. The application may have written the
// same plaintext, and the run itself may have deleted the original.
func (m *migration) isStale(v *renamed, found int64) bool {
	return found == hasChanged && v.copied != notCopied ||
		found == isGone && v.copied == freshCopy && m.Operation != Unseal && !m.renaming.mayDrop(v.name)
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

// dropOriginals deletes entries that have not changed since they were read, and returns the answers. If an original has changed,
// its copy is deleted. If a copy of this attempt has no original any more, the application has deleted it, and the copy is deleted
// too. Plaintext stays then: the application may have written the same. Each master's answers count, although another master does
// not answer. A deletion whose answer was lost may not have arrived, so it is sent again. A copy must not stay next to an
// original that the application may change.
func (m *migration) dropOriginals(ctx context.Context, moves []renamed) ([]int64, error) {
	calls := originalCalls(moves)
	err := failure(m.lasting.RunOnce(ctx, m.scripts.drop, calls), calls)
	results := make([]int64, len(moves))
	var back []*rediswalk.Call
	var refused, unanswered []renamed
	for i, call := range calls {
		v := moves[i]
		n, failed := call.Cmd.Int64()
		results[i] = n
		switch {
		case rediserr.IsReply(failed):
			refused = append(refused, v)
		case failed != nil:
			m.renaming.dropping(v.name, true)
			unanswered = append(unanswered, v)
		case m.isStale(&v, n):
			back = append(back, dropCopy(&v))
		}
		if failed == nil && n != hasChanged {
			m.renaming.forget(v.name)
		}
	}
	m.takeBack(ctx, refused)
	again := originalCalls(unanswered)
	_ = m.lasting.Run(ctx, m.scripts.drop, again) // err repeats the batch
	for i, call := range again {
		v := &unanswered[i]
		n, failed := call.Cmd.Int64()
		switch {
		case failed != nil:
			continue
		case n != hasChanged:
			m.renaming.forget(v.name)
			continue
		case v.copied != notCopied:
			back = append(back, dropCopy(v))
		}
		m.renaming.dropping(v.name, false) // the first deletion cannot delete what has changed
	}
	return results, errors.Join(err, m.dropCopies(ctx, back))
}

// dropCopies deletes copies after the application has changed or deleted their originals. If it cannot delete a copy, it
// tries again with the next batch and at the end of the run. No original leads to the copy. With Unseal it does not try
// again: the plaintext can belong to the application by then.
func (m *migration) dropCopies(ctx context.Context, calls []*rediswalk.Call) error {
	err := failure(m.lasting.Run(ctx, m.scripts.drop, calls), calls)
	if m.Operation != Unseal {
		m.renaming.failed(slices.DeleteFunc(calls, func(c *rediswalk.Call) bool { return c.Cmd.Err() == nil }))
	}
	return err
}

// originalCalls are the calls of lookSource or dropSource for entries.
func originalCalls(moves []renamed) []*rediswalk.Call {
	calls := make([]*rediswalk.Call, len(moves))
	for i := range moves {
		old, size := moves[i].expected()
		calls[i] = &rediswalk.Call{Keys: []string{moves[i].name}, Args: []any{old, size, moves[i].expires}}
	}
	return calls
}

// failure returns the first error of calls whose pipelines returned err.
func failure(err error, calls []*rediswalk.Call) error {
	for _, call := range calls {
		if failed := call.Cmd.Err(); failed != nil && err == nil {
			err = fmt.Errorf("migrate: rename entries: %w", rediserr.Wrap(failed))
		}
	}
	return err
}

// dropCopy is the call that deletes a copy, if it is still as this run wrote it. Plaintext does not tell whose entry it is, so its
// expiry has to be that of the copy, too.
func dropCopy(v *renamed) *rediswalk.Call {
	written := value{old: v.next}
	next, size := written.expected()
	call := &rediswalk.Call{Keys: []string{v.to}, Args: []any{next, size}}
	if v.header == (wire.Header{}) {
		call.Args = append(call.Args, v.until())
	}
	return call
}

// takeBack deletes copies of this attempt after their write or their confirmation failed. The run has not begun to delete their
// originals. If a copy stayed, the application could change or delete the original, and a later run would keep the copy. A copy
// stays if the application has given it another expiry or value.
func (m *migration) takeBack(ctx context.Context, copied []renamed) {
	if m.Operation == Unseal { // the application may have written the same plaintext
		m.takeBackStale(ctx, copied)
		return
	}
	var back []*rediswalk.Call
	for i := range copied {
		v := &copied[i]
		if v.copied != freshCopy || m.renaming.mayDrop(v.name) {
			continue
		}
		call := dropCopy(v)
		call.Args = append(call.Args[:2], v.until())
		back = append(back, call)
	}
	_ = m.lasting.Run(ctx, m.scripts.drop, back) // settle or the end of the run finds those that stay
}

// takeBackStale deletes copies whose originals have changed since they were read. The run may have begun to delete the originals,
// but it cannot delete one that has changed.
func (m *migration) takeBackStale(ctx context.Context, copied []renamed) {
	var back []*rediswalk.Call
	for i, n := range m.look(ctx, copied) {
		if v := &copied[i]; n == hasChanged && v.copied != notCopied {
			back = append(back, dropCopy(v))
		}
	}
	_ = m.lasting.Run(ctx, m.scripts.drop, back)
}
