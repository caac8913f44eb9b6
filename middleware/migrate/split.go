package migrate

import (
	"context"
	"strings"
)

// otherNames are the hidden names under which the application may have the entry of a plain name, besides the new one. An atomic
// operation does not see the plain name, and creates an entry under the oldest PRF key. If the plain entry got its hidden name
// then, it would win over the created one. So an entry that is split in this way is a conflict: both stay, whichever the scan
// meets first.
func (m *migration) otherNames(v *renamed) ([]string, error) {
	if v.prfKey >= 0 || m.Operation == Unseal {
		return nil, nil
	}
	const primary = 1
	names, err := m.storedNames(true, v.appKey)
	if err != nil {
		return nil, err
	}
	names = names[primary:]
	if m.To == nil {
		return names, nil
	}
	sources, err := m.storedNames(false, v.key)
	return append(names, sources...), err
}

// storedNames are the names of hiddenNames.all with their namespace.
func (m *migration) storedNames(target bool, key string) ([]string, error) {
	names, err := m.names.all(target, key)
	namespace := m.From.namespace()
	if target {
		namespace = m.target().namespace()
	}
	for i := range names {
		names[i] = namespace + names[i]
	}
	return names, err
}

// split reports for each entry whether one of its other names exists.
func (m *migration) split(ctx context.Context, moves []renamed) ([]bool, error) {
	var names []string
	var of []int
	for i := range moves {
		others, err := m.otherNames(&moves[i])
		if err != nil {
			return nil, err
		}
		for _, name := range others {
			names, of = append(names, name), append(of, i)
		}
	}
	kinds, err := m.servers.Kinds(ctx, names)
	if err != nil {
		return nil, err
	}
	split := make([]bool, len(moves))
	for j, kind := range kinds {
		split[of[j]] = split[of[j]] || kind != "none"
	}
	return split, nil
}

// withoutSplit counts entries that are split as conflicts, and returns the others. Copies of earlier attempts must not stay.
func (m *migration) withoutSplit(ctx context.Context, moves []renamed, c *Counts) ([]renamed, error) {
	split, err := m.split(ctx, moves)
	if err != nil {
		return nil, err
	}
	var conflicts, others []renamed
	for i, v := range moves {
		if split[i] {
			conflicts = append(conflicts, v)
		} else {
			others = append(others, v)
		}
	}
	c.Conflicts += int64(len(conflicts))
	return others, m.dropCopies(ctx, m.renaming.copiesOf(conflicts))
}

// isCopyOfPlain reports whether a value under the new name of v is a copy that this run has made of the entry with the plain name.
func (m *migration) isCopyOfPlain(v *renamed, stored []byte) bool {
	if v.prfKey < 0 || m.Operation != Seal {
		return false
	}
	key := v.appKey
	if m.To != nil {
		key = m.From.Prefix + strings.TrimPrefix(key, m.To.Prefix)
	}
	_, known := m.renaming.knows(m.From.namespace()+key, stored)
	return known
}
