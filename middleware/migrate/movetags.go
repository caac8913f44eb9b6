package migrate

import (
	"context"
	"fmt"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/sealcache/sealcache/middleware/internal/rediswalk"
)

// tagMembers is how many members of a tag set are read and written at a time.
const tagMembers = 500

// tagged tells whether tag sets are looked at: names change, or the namespace that tags begin with does. A store with a
// namespace keeps its tags under names that begin with it, and one without does not: when an application has begun to use
// a namespace for names that had the same form before, its entries are still in the old sets, and what it invalidates are
// the new ones. That may be so whenever Seal is given a namespace, too.
func (m *migration) tagged() bool {
	return m.rebinds() && (!m.inPlace() || m.From.Namespace != m.To.Namespace) || m.adoptsTags()
}

// adoptsTags tells whether entries may have been tagged by an application that had no namespace yet.
func (m *migration) adoptsTags() bool {
	return m.Operation == Seal && m.To == nil && m.From.Namespace != ""
}

// movesTag tells whether a tag set may hold names of From, and what it is called for To's. Tags of a namespace begin with
// it, as its keys do. Without one they are all looked at: their members tell.
func (m *migration) movesTag(set string) (string, bool) {
	tag, ok := strings.CutPrefix(set, tagPrefix)
	if !ok {
		return "", false
	}
	if to := m.target().namespace(); m.inPlace() && m.From.Namespace == "" || m.adoptsTags() {
		return tagPrefix + to + tag, !strings.HasPrefix(tag, to) // those are the namespace's already
	}
	if tag, ok = strings.CutPrefix(tag, m.From.namespace()); !ok {
		return "", false
	}
	return tagPrefix + m.target().namespace() + tag, true
}

// moveTags gives the new names the tags of the old ones.
func (m *migration) moveTags(ctx context.Context) error {
	return m.eachTagSet(ctx, func(ctx context.Context, set, to string, c *Counts) error {
		expires := int64(0)
		touched := false
		err := m.eachMembers(ctx, set, func(names []string) error {
			var members []any
			for _, name := range names {
				if p, v := m.locate(name); v == nameTaken {
					members = append(members, p.to)
				}
			}
			if len(members) == 0 {
				return nil
			}
			if !touched {
				var err error
				if expires, err = m.expireTime(ctx, set); err != nil || expires == -2 {
					return err
				}
				touched = true
				c.TagSets++
			}
			c.TagMembers += int64(len(members))
			if m.DryRun {
				return nil
			}
			add := &rediswalk.Call{Keys: []string{to}, Args: append([]any{expires}, members...)}
			if err := m.servers.Run(ctx, m.scripts.tag, []*rediswalk.Call{add}); err != nil {
				return err
			}
			return add.Cmd.Err()
		})
		return err
	}, true)
}

// dropTags removes memberships of old names whose entries are gone.
func (m *migration) dropTags(ctx context.Context) error {
	if m.DryRun {
		return nil
	}
	return m.eachTagSet(ctx, func(ctx context.Context, set, _ string, _ *Counts) error {
		return m.eachMembers(ctx, set, func(names []string) error {
			var old []string
			for _, name := range names {
				if _, v := m.locate(name); v == nameTaken {
					old = append(old, name)
				}
			}
			if len(old) == 0 {
				return nil
			}
			kinds, err := m.servers.Kinds(ctx, old)
			if err != nil {
				return err
			}
			var gone []any
			for i, kind := range kinds {
				if kind == "none" {
					gone = append(gone, old[i])
				}
			}
			if len(gone) == 0 {
				return nil
			}
			return m.servers.Client.SRem(ctx, set, gone...).Err()
		})
	}, false)
}

// eachTagSet calls f for every tag set that concerns the space.
func (m *migration) eachTagSet(ctx context.Context, f func(ctx context.Context, set, to string, c *Counts) error, count bool) error {
	w := &rediswalk.Walk[*Counts]{
		Servers: m.servers,
		Pattern: m.tagPattern(),
		Tuning:  m.tuning,
		Log:     m.Logger,
		Limiter: m.walk.Limiter,
	}
	w.Work = func(ctx context.Context, names []string) (*Counts, error) {
		c := new(Counts)
		for _, set := range names {
			to, ok := m.movesTag(set)
			if !ok {
				continue
			}
			if err := f(ctx, set, to, c); err != nil && !redis.HasErrorPrefix(err, "WRONGTYPE") {
				return nil, fmt.Errorf("migrate: tags: %w", rediswalk.WithoutNames(err))
			}
		}
		return c, nil
	}
	if count {
		// A resumed run does the tags again: it counts them once.
		m.walk.Mu.Lock()
		m.counts.TagSets, m.counts.TagMembers = 0, 0
		m.walk.Mu.Unlock()
		w.Commit = func(_ *rediswalk.Track[*Counts], c *Counts) {
			if c != nil {
				m.walk.Mu.Lock()
				m.counts.add(c)
				m.walk.Mu.Unlock()
			}
		}
	}
	return w.Run(ctx, nil, "")
}

func (m *migration) tagPattern() string {
	if m.adoptsTags() {
		return rediswalk.Literal(tagPrefix) + "*"
	}
	return rediswalk.Literal(tagPrefix+m.From.namespace()) + "*"
}

// eachMembers reads the members of a set, some at a time.
func (m *migration) eachMembers(ctx context.Context, set string, f func(names []string) error) error {
	for cursor := uint64(0); ; {
		names, next, err := m.servers.Client.SScan(ctx, set, cursor, "", tagMembers).Result()
		if err != nil {
			return err
		}
		for len(names) > 0 {
			n := min(len(names), tagMembers)
			if err := f(names[:n]); err != nil {
				return err
			}
			names = names[n:]
		}
		if cursor = next; cursor == 0 {
			return nil
		}
	}
}

// expireTime returns when an entry expires, in Unix milliseconds, -1 for never, -2 if it does not exist.
func (m *migration) expireTime(ctx context.Context, name string) (int64, error) {
	n, err := m.servers.Client.Do(ctx, "pexpiretime", name).Int64()
	if err != nil {
		return 0, rediswalk.WithoutNames(err)
	}
	return n, nil
}
