package migrate

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/redis/go-redis/v9"

	"github.com/sealcache/sealcache/internal/rediserr"
	"github.com/sealcache/sealcache/middleware/internal/box"
	"github.com/sealcache/sealcache/middleware/internal/cachevalue"
	"github.com/sealcache/sealcache/middleware/internal/content"
	"github.com/sealcache/sealcache/middleware/internal/rediswalk"
	"github.com/sealcache/sealcache/middleware/internal/wire"
)

// The results of renameSource, besides those of swapSource.
const (
	isRenamed  = 1
	hasChanged = 0
	isGone     = -1
	isTaken    = -2
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
func (m *migration) rename(ctx context.Context, moves []renamed, c *Counts) ([]entry, error) {
	if err := m.dropCopies(ctx, m.renaming.takeFailed()); err != nil {
		return nil, err
	}
	if len(moves) == 0 {
		return nil, nil
	}
	if m.DryRun {
		for i := range moves {
			m.countRenamed(&moves[i], c)
		}
		return nil, nil
	}
	moves, release := m.renaming.claim(moves)
	defer release()
	growth := int64(0)
	for i := range moves {
		growth += int64(len(moves[i].next) + len(moves[i].to))
	}
	if err := m.admit(ctx, growth); err != nil {
		return nil, err
	}
	if err := m.tag(ctx, moves); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	write := m.renameAtOnce
	if m.servers.Clustered() {
		write = m.renameAcross
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
			m.renaming.forget(v.name)
			done = append(done, v)
		case isGone:
			c.Disappeared++
			m.renaming.forget(v.name)
		case isTaken:
			taken = append(taken, v)
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
		calls[i] = &rediswalk.Call{Keys: []string{v.name, v.to}, Args: []any{old, size, v.next, v.expires, v.until()}}
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
		m.renaming.know(&moves[i], moves[i].next, knownCopy{plain[i].expires, plain[i].expires, true})
	}
	err := m.writeNew(ctx, plain)
	results := make([]int64, len(moves))
	var copied []renamed
	var of []int
	for i := range plain {
		if results[i] = isTaken; plain[i].written {
			moves[i].copied = freshCopy
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

// results runs a script for each call, and returns the numbers that the script returned. A lost reply is an error: the second
// answer of a script that has deleted an entry is that the application has deleted it.
func (m *migration) results(ctx context.Context, script rediswalk.Script, calls []*rediswalk.Call) ([]int64, error) {
	if err := m.servers.RunOnce(ctx, script, calls); err != nil {
		return nil, err
	}
	results := make([]int64, len(calls))
	for i, call := range calls {
		var err error
		if results[i], err = call.Cmd.Int64(); err != nil {
			return nil, fmt.Errorf("migrate: rename entries: %w", rediserr.Wrap(err))
		}
	}
	return results, nil
}

// settle handles entries whose new name is taken. If this run knows the entry there as a copy, and the original has another value or
// expiry since, the copy is deleted. Otherwise the entry there may open under its name, and the old name may be hidden too.
// Then the application or an earlier run has written it later, so the old entry is deleted. An entry with a plain name may
// be the newer one. It is deleted only if both hold the same value with the same expiry.
func (m *migration) settle(ctx context.Context, taken []renamed, c *Counts) (settled []renamed, changed []entry, err error) {
	if len(taken) == 0 {
		return nil, nil, nil
	}
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
		switch {
		case known && (!same || expiries[i] == was.copied && v.until() != was.original):
			copied := value{old: stored}
			old, size := copied.expected()
			stale = append(stale, &rediswalk.Call{Keys: []string{v.to}, Args: []any{old, size, expiries[i]}})
			m.renaming.dropping(v.name, false) // a deletion that was sent before cannot delete what has changed
			changed = append(changed, m.original(v))
		case same && m.copies != nil && v.header != (wire.Header{}) && (v.prfKey >= 0 || expiries[i] == v.until()):
			mine = append(mine, copyOf{v, stored, expiries[i]})
		case supersedes && v.prfKey >= 0 || same && expiries[i] == v.until():
			settled = append(settled, v)
		default:
			c.Conflicts++
			m.renaming.forget(v.name) // there may be many
		}
	}
	if err := failure(m.lasting.Run(ctx, m.scripts.drop, stale), stale); err != nil {
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
			m.renaming.forget(v.name)
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
// take it back when it finds that the original is gone. That run then finds other bytes, and leaves them. A copy of this run, whose
// write was not answered, stays its own copy, unless the application has given it another expiry.
func (m *migration) takeOver(ctx context.Context, copies []copyOf) (taken []renamed, changed []entry, err error) {
	if len(copies) == 0 {
		return nil, nil, nil
	}
	calls := make([]*rediswalk.Call, len(copies))
	for i := range copies {
		v := &copies[i]
		of, _ := m.renaming.knows(v.name, v.stored)
		of = knownCopy{v.expiresAt, v.until(), of.own && v.expiresAt == v.until()}
		if v.copied = takenOver; of.own && !m.renaming.mayDrop(v.name) {
			v.copied = freshCopy
		}
		m.renaming.know(&v.renamed, v.stored, of)
		m.renaming.know(&v.renamed, v.next, of)
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
			err = errors.Join(err, fmt.Errorf("migrate: rename entries: %w", rediserr.Wrap(failed)))
		case len(results) == 1 && results[0] == 1:
			taken = append(taken, copies[i].renamed)
		default:
			changed = append(changed, m.original(copies[i].renamed))
		}
	}
	var stored [][]byte
	if err == nil {
		stored, err = m.readCopies(ctx, taken)
	}
	if err != nil {
		m.takeBackStale(ctx, append(taken, unanswered...))
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
		return false, false, fmt.Errorf("migrate: process a renamed value: %w", err)
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

// tag adds entries under their new names to the sets of their tags.
func (m *migration) tag(ctx context.Context, moves []renamed) error {
	var calls []*rediswalk.Call
	for i := range moves {
		v := &moves[i]
		for _, tag := range v.tags {
			set, err := m.newTagSet(tag)
			if err != nil {
				return err
			}
			calls = append(calls, &rediswalk.Call{Keys: []string{set}, Args: []any{v.until(), v.to}})
		}
	}
	if err := m.servers.Run(ctx, m.scripts.tag, calls); err != nil {
		return err
	}
	for _, call := range calls {
		if err := call.Cmd.Err(); err != nil {
			return fmt.Errorf("migrate: add names to tag sets: %w", rediserr.Wrap(err))
		}
	}
	return nil
}

// newTagSet returns the name of the set in which an application finds a tag now.
func (m *migration) newTagSet(tag string) (string, error) {
	namespace := m.target().namespace()
	if m.Operation == Unseal {
		return tagPrefix + namespace + tag, nil
	}
	return m.tagSet(m.names.to, namespace, 0, tag)
}

// untag removes old names from the sets of their tags. dropTags does so for plain names.
func (m *migration) untag(ctx context.Context, done []renamed) error {
	var sets, names []string
	for i := range done {
		v := &done[i]
		for _, tag := range v.tags {
			if v.prfKey < 0 {
				continue
			}
			set, err := m.tagSet(m.names.from, m.From.namespace(), v.prfKey, tag)
			if err != nil {
				return err
			}
			sets, names = append(sets, set), append(names, v.name)
		}
	}
	if len(sets) == 0 {
		return nil
	}
	return m.servers.Pipelined(ctx, func(p redis.Pipeliner) {
		for i, set := range sets {
			p.SRem(ctx, set, names[i]) // if it fails, the set names an entry that does not exist
		}
	})
}
