package migrate

import (
	"context"
	"fmt"

	"github.com/redis/go-redis/v9"

	"github.com/sealcache/sealcache/internal/rediserr"
	"github.com/sealcache/sealcache/middleware/internal/rediswalk"
)

// tag adds entries under their new names to their tag sets.
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
			return m.tagError("cannot add entries to their tag sets in Redis", err)
		}
	}
	return nil
}

// tagError returns the error of an action on tag sets.
func (m *migration) tagError(action string, err error) error {
	if rediserr.Code(err) == "WRONGTYPE" {
		action = fmt.Sprintf("a Redis key that starts with %q is not a set (find it with SCAN and TYPE, and delete it)", tagPrefix+m.target().namespace())
	}
	return fmt.Errorf("migrate: %s: %w", action, rediserr.Wrap(err))
}

// newTagSet returns the name of the set in which an application finds a tag now.
func (m *migration) newTagSet(tag string) (string, error) {
	namespace := m.target().namespace()
	if m.Operation == Unseal {
		return tagPrefix + namespace + tag, nil
	}
	return m.tagSet(m.names.to, namespace, 0, tag)
}

// untag removes old names from their tag sets. dropTags does so for plain names.
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
