package migrate

import (
	"context"
	"strings"

	"github.com/sealcache/sealcache/internal/rediscmd"
	"github.com/sealcache/sealcache/internal/rediserr"
	"github.com/sealcache/sealcache/middleware/internal/pseudonym"
	"github.com/sealcache/sealcache/middleware/internal/rediswalk"
)

// tagMembers is how many members of a tag set are read and written at a time.
const tagMembers = 500

// tagged reports whether tag sets are rewritten, because names or the namespace of tags change. A store with a namespace
// starts the names of its tag sets with it, and a store without one does not. An application may begin to use a namespace
// for names that had this form before. Then its entries are in the old sets, but it invalidates the new ones. Whenever
// Seal is given a namespace, this is possible.
func (m *migration) tagged() bool {
	if m.names != nil { // Reseal and Unseal know the tags from the values
		return m.Operation == Seal
	}
	return m.rebinds() && (!m.inPlace() || m.From.Namespace != m.To.Namespace) || m.adoptsTags()
}

// adoptsTags reports whether an application without a namespace may have tagged the entries.
func (m *migration) adoptsTags() bool {
	return m.Operation == Seal && m.To == nil && m.From.Namespace != ""
}

// movesTag reports whether a tag set may hold names of From, and returns its name for To. Without a namespace all sets are
// examined, because only their members show it.
func (m *migration) movesTag(set string) (string, bool) {
	tag, ok := strings.CutPrefix(set, tagPrefix)
	if !ok {
		return "", false
	}
	if m.names != nil {
		return m.movesHiddenTag(tag)
	}
	if to := m.target().namespace(); m.inPlace() && m.From.Namespace == "" || m.adoptsTags() {
		return tagPrefix + to + tag, !strings.HasPrefix(tag, to) // those are the namespace's already
	}
	if tag, ok = strings.CutPrefix(tag, m.From.namespace()); !ok {
		return "", false
	}
	return tagPrefix + m.target().namespace() + tag, true
}

// placeOfMember returns the place of a member of a tag set, if it is a name that the run changes. A member that looks like a
// pseudonym is a plain name if the tag's name is plain. Hidden names are in sets under hidden names alone.
func (m *migration) placeOfMember(set, name string) (place, bool) {
	p, v := m.placeOf(name)
	if v == nameTaken && p.to == "" && m.names != nil {
		if tag, ok := m.plainTag(strings.TrimPrefix(set, tagPrefix)); ok && !pseudonym.Is(tag) {
			p, _, v = m.resolve(p.key)
		}
	}
	return p, v == nameTaken && p.to != ""
}

// moveTags gives the new names the tags of the old ones.
func (m *migration) moveTags(ctx context.Context) error {
	return m.eachTagSet(ctx, func(ctx context.Context, set, to string, c *Counts) error {
		expires := int64(0)
		touched := false
		err := m.eachMembers(ctx, set, func(names []string) error {
			var members []any
			for _, name := range names {
				if p, ok := m.placeOfMember(set, name); ok {
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
				if err := m.servers.Client.SScan(ctx, to, 0, "", 1).Err(); err != nil {
					return rediswalk.CallError("SSCAN", err)
				}
				return m.proveTags(ctx)
			}
			add := &rediswalk.Call{Keys: []string{to}, Args: append([]any{expires}, members...)}
			if err := m.servers.Run(ctx, m.scripts.tag, []*rediswalk.Call{add}); err != nil {
				return err
			}
			return add.Cmd.Err()
		})
		return err
	}, func(work, c *Counts) { work.TagSets, work.TagMembers = c.TagSets, c.TagMembers })
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
				if _, ok := m.placeOfMember(set, name); ok {
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
	}, nil)
}

// eachTagSet calls f for every tag set that may hold names of the space. At the end, count sets those counts of the run that
// f has made. So a resumed run, which does all sets again, counts them once.
func (m *migration) eachTagSet(ctx context.Context, f func(ctx context.Context, set, to string, c *Counts) error, count func(work, c *Counts)) error {
	w := &rediswalk.Walk[Counts]{
		Servers:  m.servers,
		Pattern:  m.tagPattern(),
		Tuning:   m.tuning,
		Throttle: m.throttle,
		Log:      m.Logger,
		Merge:    func(tally, c *Counts) { tally.add(c) },
		Work: func(ctx context.Context, names []string) (*Counts, error) {
			c := new(Counts)
			for _, set := range names {
				to, ok := m.movesTag(set)
				if !ok {
					continue
				}
				if err := f(ctx, set, to, c); err != nil {
					return nil, m.tagError("cannot change tag sets in Redis", err)
				}
			}
			return c, nil
		},
	}
	err := w.Run(ctx, nil, "")
	if count == nil {
		return err
	}
	m.walk.Mu.Lock()
	defer m.walk.Mu.Unlock()
	var all Counts
	for _, t := range w.Tracks {
		all.add(&t.Tally)
	}
	count(&m.work, &all)
	return err
}

func (m *migration) tagPattern() string {
	if m.adoptsTags() {
		return rediscmd.Pattern(tagPrefix)
	}
	return rediscmd.Pattern(tagPrefix + m.From.namespace())
}

// eachMembers reads the members of a set, some at a time. A key of another type has none, because its name may only look like
// that of a set of a tag.
func (m *migration) eachMembers(ctx context.Context, set string, f func(names []string) error) error {
	for cursor := uint64(0); ; {
		names, next, err := m.servers.Client.SScan(ctx, set, cursor, "", tagMembers).Result()
		if rediserr.Code(err) == "WRONGTYPE" {
			return nil
		}
		if err != nil {
			return rediswalk.CallError("SSCAN", err)
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
		return 0, rediswalk.CallError("PEXPIRETIME", err)
	}
	return n, nil
}
