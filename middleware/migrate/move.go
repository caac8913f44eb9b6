package migrate

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/sealcache/sealcache/internal/rediscmd"
	"github.com/sealcache/sealcache/internal/rediserr"
	"github.com/sealcache/sealcache/middleware/internal/box"
	"github.com/sealcache/sealcache/middleware/internal/cachevalue"
	"github.com/sealcache/sealcache/middleware/internal/rediswalk"
	"github.com/sealcache/sealcache/middleware/internal/wire"
)

// moved is one entry that gets another name.
type moved struct {
	entry
	value
	expires int64 // Unix milliseconds, -1 never
	written bool  // by this run; if its answer was lost, perhaps
	lost    bool  // the answer to its write
}

// until returns when the entry expires under its new name, in the form of expires.
func (v *moved) until() int64 {
	if v.end > 0 && (v.expires < 0 || v.expires > v.end) {
		return v.end
	}
	return v.expires
}

// originalCall is the call of a script that compares the original with what was read.
func (v *moved) originalCall(args ...any) *rediswalk.Call {
	old, size := v.expected()
	return &rediswalk.Call{Keys: []string{v.name}, Args: append([]any{old, size}, args...)}
}

// moveGroup writes the values of entries under their new names.
func (m *migration) moveGroup(ctx context.Context, sc *scratch, group []entry, c *Counts) error {
	moves, _, err := m.readWithExpiry(ctx, group, c)
	if err != nil {
		return err
	}
	if err := m.prepare(ctx, sc, oldValues(moves)); err != nil {
		return err
	}
	ready := make([]moved, 0, len(moves))
	err = m.visit(ctx, len(moves), func(i int) (place, []byte) { return moves[i].place, moves[i].old }, func(i int) error {
		v := &moves[i]
		verdict, err := m.transform(ctx, sc, v.place, &v.value, c)
		switch {
		case err != nil:
			return err
		case verdict != toWrite:
			c.leave(verdict)
		default:
			v.expires = v.until()
			ready = append(ready, *v)
		}
		return nil
	})
	if err == nil {
		err = m.checkOpened(ctx, c)
	}
	if err != nil {
		return err
	}
	if m.DryRun {
		return m.predict(ctx, ready, c)
	}
	if err := m.writeNew(ctx, ready); err != nil {
		return err
	}
	arrived, err := m.verify(ctx, ready, c)
	if err != nil || !m.DeleteOld {
		return err
	}
	return m.dropOld(ctx, arrived, c)
}

func oldValues(moves []moved) [][]byte {
	values := make([][]byte, len(moves))
	for i := range moves {
		values[i] = moves[i].old
	}
	return values
}

func newNames(moves []moved) []string {
	names := make([]string, len(moves))
	for i := range moves {
		names[i] = moves[i].to
	}
	return names
}

// readWithExpiry reads entries. It also returns those that are of another type now.
func (m *migration) readWithExpiry(ctx context.Context, group []entry, c *Counts) (moves []moved, others []entry, err error) {
	calls := make([]*rediswalk.Call, len(group))
	for i, e := range group {
		calls[i] = &rediswalk.Call{Keys: []string{e.name}}
	}
	if err := m.servers.Run(ctx, m.scripts.read, calls); err != nil {
		return nil, nil, err
	}
	moves = make([]moved, 0, len(group))
	for i, call := range calls {
		reply, err := call.Cmd.Slice()
		if rediserr.Code(err) == "WRONGTYPE" {
			c.Disappeared++
			others = append(others, group[i])
			continue
		}
		if err != nil {
			return nil, nil, fmt.Errorf("migrate: cannot read an entry to move: %w", rediserr.Wrap(err))
		}
		if len(reply) != 2 {
			return nil, nil, fmt.Errorf("migrate: cannot read an entry to move: Redis returned %d values instead of 2", len(reply))
		}
		text, ok := reply[0].(string)
		at, known := reply[1].(int64)
		if reply[0] == nil || at == -2 {
			c.Disappeared++
			continue
		}
		if !ok || !known {
			return nil, nil, fmt.Errorf("migrate: cannot read an entry to move: Redis returned the types %T and %T", reply[0], reply[1])
		}
		v := moved{entry: group[i], expires: at}
		if v.old = rediswalk.BytesOf(text); v.old == nil {
			v.old = []byte{}
		}
		c.BytesRead += int64(len(v.old))
		moves = append(moves, v)
	}
	return moves, others, nil
}

// predict counts what would happen to entries, by what their new names hold.
func (m *migration) predict(ctx context.Context, moves []moved, c *Counts) error {
	kinds, err := m.servers.Kinds(ctx, newNames(moves))
	if err != nil {
		return err
	}
	var arrive, taken []moved
	for i, kind := range kinds {
		switch kind {
		case "none":
			c.written(&moves[i].value, -len(moves[i].to))
			arrive = append(arrive, moves[i])
		case "string":
			taken = append(taken, moves[i])
		default:
			c.Conflicts++
		}
	}
	taken, err = m.verify(ctx, taken, c)
	if err != nil || !m.DeleteOld {
		return err
	}
	for _, v := range append(arrive, taken...) {
		c.deleted(&v)
	}
	return nil
}

// deleted counts an old entry that was deleted.
func (c *Counts) deleted(v *moved) {
	c.Deleted++
	c.Growth -= int64(len(v.name) + len(v.old))
}

// writeNew writes entries whose names are free. A write is sent once: the second answer would be that the name is taken.
func (m *migration) writeNew(ctx context.Context, moves []moved) error {
	growth := int64(0)
	for i := range moves {
		growth += int64(len(moves[i].next) + len(moves[i].to))
	}
	if err := m.admit(ctx, growth); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	cmds := make([]*redis.Cmd, len(moves))
	err := m.lasting.Pipelined(ctx, func(p redis.Pipeliner) { // a write that was abandoned may still be executed later
		for i := range moves {
			v := &moves[i]
			args := []any{"set", v.to, v.next, "nx"}
			if v.expires >= 0 {
				args = append(args, "pxat", v.expires)
			}
			cmds[i] = redis.NewCmd(ctx, args...)
			_ = p.Process(ctx, rediscmd.Once(cmds[i]))
		}
	})
	for i, cmd := range cmds {
		failed := cmd.Err()
		if errors.Is(failed, redis.Nil) {
			continue
		}
		if moves[i].written = !rediserr.IsReply(failed); moves[i].written {
			moves[i].lost = failed != nil
			m.wrote.Add(1)
		}
		if failed != nil && err == nil {
			err = fmt.Errorf("migrate: cannot write entries under new names: %w", rediserr.Wrap(failed))
		}
	}
	return err
}

// verify reads the new names back, and returns the entries that have arrived. An entry has arrived if it opens with
// the same value and has the old expiry. If an earlier run wrote an entry and its expiry differs now, either expiry
// may be the right one, so it is a conflict.
func (m *migration) verify(ctx context.Context, moves []moved, c *Counts) ([]moved, error) {
	moves, err := m.withoutLarger(ctx, moves, c)
	if err != nil {
		return nil, err
	}
	values, err := m.readBack(ctx, newNames(moves), nil)
	if err != nil {
		return nil, err
	}
	expiries, err := m.expiries(ctx, moves)
	if err != nil {
		return nil, err
	}
	arrived := moves[:0]
	for i, stored := range values {
		v := moves[i]
		same := false
		gone := stored == nil || !v.written && expiries[i] == -2 // expired since it was read, perhaps
		switch {
		case gone && v.expires >= 0 && time.UnixMilli(v.expires).Before(time.Now().Add(time.Second)):
			c.Disappeared++
			continue
		case stored == nil && v.written:
			// The application uses the new names already and has deleted the new entry. The old entry must stay.
			c.Conflicts++
			continue
		case stored == nil, !v.written && expiries[i] != v.expires:
		case v.header == wire.Header{}:
			same = bytes.Equal(stored, v.plaintext)
		default:
			if same, err = m.holds(ctx, &v, stored); err != nil {
				return nil, err
			}
		}
		switch {
		case !same:
			c.Conflicts++
			continue
		case v.written:
			c.written(&v.value, -len(v.to))
		default:
			c.AlreadyDone++
		}
		arrived = append(arrived, v)
	}
	return arrived, nil
}

// maxSealing is how many bytes sealing adds at most, with room.
const maxSealing = wire.MaxHeaderSize + 2*wire.MaxKeyBytes

// withoutLarger counts as conflicts the entries under whose new names are values that are too large to be the same. They are not
// read, because an attacker may have planted huge ones.
func (m *migration) withoutLarger(ctx context.Context, moves []moved, c *Counts) ([]moved, error) {
	sizes := make([]*redis.IntCmd, len(moves))
	err := m.servers.Pipelined(ctx, func(p redis.Pipeliner) {
		for i := range moves {
			if !moves[i].written {
				sizes[i] = p.StrLen(ctx, moves[i].to)
			}
		}
	})
	if err != nil {
		return nil, err
	}
	kept := moves[:0]
	for i, v := range moves {
		if sizes[i] != nil && sizes[i].Val() > int64(len(v.plaintext)+maxSealing) {
			c.Conflicts++
			continue
		}
		kept = append(kept, v)
	}
	return kept, nil
}

// expiries returns the expiry of each entry that this run has not written: Unix milliseconds, -1 for never, -2 if the entry
// does not exist.
func (m *migration) expiries(ctx context.Context, moves []moved) ([]int64, error) {
	cmds := make([]*redis.Cmd, len(moves))
	err := m.servers.Pipelined(ctx, func(p redis.Pipeliner) {
		for i := range moves {
			if !moves[i].written {
				cmds[i] = p.Do(ctx, "pexpiretime", moves[i].to)
			}
		}
	})
	if err != nil {
		return nil, err
	}
	at := make([]int64, len(moves))
	for i, cmd := range cmds {
		if cmd == nil {
			continue
		}
		if at[i], err = cmd.Int64(); err != nil {
			return nil, fmt.Errorf("migrate: cannot read the expiry of entries: %w", rediserr.Wrap(err))
		}
	}
	return at, nil
}

// readBack reads copies. If their originals, on other masters of a Cluster, are deleted afterwards, the replicas of the copies
// have confirmed them, and the tags.
func (m *migration) readBack(ctx context.Context, names []string, tags []rediswalk.Member) ([][]byte, error) {
	if m.copies == nil {
		return m.servers.Read(ctx, names)
	}
	return m.copies.Read(ctx, names, tags)
}

// makeCopies makes the reader of copies, if the run deletes originals on other masters than their copies.
func (m *migration) makeCopies(ctx context.Context) error {
	if m.DryRun || !m.DeleteOld && m.names == nil || !m.servers.Clustered() {
		return nil
	}
	err := m.walk.Retry(ctx, "INFO", func(ctx context.Context) (err error) {
		mark := m.target().stored() + "sealcache.copied:"
		m.copies, err = rediswalk.NewCopies(ctx, m.servers, mark, m.replicas, m.AllowFewerReplicas, m.tuning.ConfirmFor)
		return err
	})
	if err != nil {
		return fmt.Errorf("migrate: cannot ask the Redis masters for their replicas: %w", err)
	}
	return nil
}

// holds reports whether the value under the new name opens as the value that was moved.
func (m *migration) holds(ctx context.Context, v *moved, stored []byte) (bool, error) {
	h, n, ok := cachevalue.Header(stored)
	if !ok || h != v.header {
		return false, nil
	}
	plaintext, _, err := m.arrived.Open(ctx, !m.present.names(stored[n:]), v.toKey, stored, n)
	switch {
	case err == nil:
		return bytes.Equal(plaintext, v.plaintext), nil
	case box.Refused(err):
		return false, nil
	default:
		return false, fmt.Errorf("migrate: cannot decrypt the value that Redis has under the new name of an entry: %w", err)
	}
}

// dropOld deletes old entries that have not changed since they were read.
func (m *migration) dropOld(ctx context.Context, moves []moved, c *Counts) error {
	calls := make([]*rediswalk.Call, len(moves))
	for i := range moves {
		calls[i] = moves[i].originalCall()
	}
	if err := m.servers.Run(ctx, m.scripts.drop, calls); err != nil {
		return err
	}
	for i, call := range calls {
		n, err := call.Cmd.Int64()
		if err != nil {
			return fmt.Errorf("migrate: cannot delete old entries with DEL: %w", rediserr.Wrap(err))
		}
		switch n {
		case 1:
			c.deleted(&moves[i])
		case 0:
			c.KeptChanging++ // by a writer that should have been stopped: the new entry lacks its value
		}
	}
	return nil
}
