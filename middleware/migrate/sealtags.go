package migrate

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/sealcache/sealcache/middleware/internal/box"
	"github.com/sealcache/sealcache/middleware/internal/cachevalue"
	"github.com/sealcache/sealcache/middleware/internal/content"
	"github.com/sealcache/sealcache/middleware/internal/wire"
)

// sealTags seals the tags of plain sets in the values that have hidden names now. A plaintext entry does not name its tags,
// so that only the sets tell. Without this step, a change of the PRF key would lose them, and Touch would not extend them.
//
// It runs before dropTags, which removes the old names from the sets. So a run that is killed does it again.
func (m *migration) sealTags(ctx context.Context) error {
	return m.eachTagSet(ctx, func(ctx context.Context, set, _ string, c *Counts) error {
		tag, ok := m.plainTag(strings.TrimPrefix(set, tagPrefix))
		if !ok {
			return nil
		}
		return m.eachMembers(ctx, set, func(names []string) error {
			entries := make([]entry, 0, len(names))
			for _, name := range names {
				if p, ok := m.placeOfMember(set, name); ok {
					entries = append(entries, entry{place: place{key: p.toKey, to: p.to, toKey: p.toKey}, name: p.to})
				}
			}
			entries, err := m.measure(ctx, entries, new(Counts)) // absent ones were left alone, and are counted by their reason
			if err != nil {
				return err
			}
			return eachGroup(entries, func(group []entry) error { return m.sealTag(ctx, group, tag, c) })
		})
	}, func(work, c *Counts) { work.TagsSealed, work.TagsNotSealed = c.TagsSealed, c.TagsNotSealed })
}

// sealTag seals one tag in the values of entries.
func (m *migration) sealTag(ctx context.Context, group []entry, tag string, c *Counts) error {
	var sc scratch
	for attempt := 1; len(group) > 0; attempt++ {
		if attempt > m.tuning.Attempts {
			c.TagsNotSealed += int64(len(group))
			return nil
		}
		values, err := m.servers.Read(ctx, namesOf(group))
		if err != nil {
			return err
		}
		if err := m.prepare(ctx, &sc, values); err != nil {
			return err
		}
		var writes []swap
		err = m.visit(ctx, len(values), func(i int) (place, []byte) { return group[i].place, values[i] }, func(i int) error {
			v := value{old: values[i]}
			changed, err := m.addTag(ctx, &sc, group[i].place, &v, tag, c)
			if changed {
				writes = append(writes, swap{entry: group[i], value: v})
			}
			return err
		})
		if err != nil {
			return err
		}
		var written Counts
		if group, err = m.write(ctx, writes, &written); err != nil {
			return err
		}
		c.TagsSealed += written.Written
		c.BytesWritten += written.BytesWritten
		c.Growth += written.Growth
	}
	return nil
}

// addTag sets what a value becomes whose tags lack one. It reports whether it is to be written. Values that do not open, or
// are not under the primary PRF key, are not those that this run has hidden.
func (m *migration) addTag(ctx context.Context, sc *scratch, p place, v *value, tag string, c *Counts) (bool, error) {
	h, n, ok := cachevalue.Header(v.old)
	if !ok || h.Flags&wire.Hidden == 0 || h.PRFKey != m.names.to.ID(0) {
		return false, nil
	}
	plaintext, _, err := m.arrived.Open(ctx, !m.present.names(v.old[n:]), p.toKey, v.old, n)
	switch {
	case box.Refused(err):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("migrate: cannot open a value: %w", err)
	}
	labels, err := content.Labels(h, plaintext)
	if err != nil {
		return false, nil //nolint:nilerr // it opened, so a newer release may know it
	}
	if slices.Contains(labels.Tags, tag) {
		c.TagsSealed++
		return false, nil
	}
	labels.Tags = append(labels.Tags, tag)
	plaintext, err = content.Relabel(&h, plaintext, h.Flags&(wire.Hidden|wire.Named), labels)
	if errors.Is(err, wire.ErrTooLarge) {
		c.TagsNotSealed++
		return false, nil
	}
	if err != nil {
		return false, nil //nolint:nilerr // as above
	}
	verdict, err := m.sealAs(ctx, sc, p, v, h, plaintext)
	return verdict == toWrite && err == nil, err
}
