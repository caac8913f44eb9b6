package migrate

import (
	"context"
	"errors"
	"fmt"

	"github.com/sealcache/sealcache/middleware/internal/box"
	"github.com/sealcache/sealcache/middleware/internal/cachevalue"
	"github.com/sealcache/sealcache/middleware/internal/content"
	"github.com/sealcache/sealcache/middleware/internal/pseudonym"
	"github.com/sealcache/sealcache/middleware/internal/wire"
)

// renamed is one entry of a run that hides names, or restores them.
type renamed struct {
	moved
	appKey string   // the key of the target
	prfKey int      // the number of the PRF key that hid its name, -1 if it is under a plain name
	tags   []string // that are sealed with the value
	copied copyState
}

// inPlace reports whether the entry keeps its name.
func (v *renamed) inPlace() bool { return v.to == v.name }

// hideEntries gives entries their hidden names, or with Unseal their plain ones. They are claimed before they are read: see
// copyState.
func (m *migration) hideEntries(ctx context.Context, sc *scratch, group []entry, c *Counts) error {
	group, release := m.renaming.claim(group)
	defer release()
	return m.untilDone(group, c, func(group []entry) ([]entry, error) { return m.hideGroup(ctx, sc, group, c) })
}

// hideGroup returns the entries that had changed when they were to be written.
func (m *migration) hideGroup(ctx context.Context, sc *scratch, group []entry, c *Counts) ([]entry, error) {
	read, others, err := m.readWithExpiry(ctx, group, c)
	if err != nil {
		return nil, err
	}
	if err := m.dropCopies(ctx, m.renaming.read(group, read, others)); err != nil {
		return nil, err
	}
	if err := m.prepare(ctx, sc, oldValues(read)); err != nil {
		return nil, err
	}
	var stay []swap
	var move, tagAgain []renamed
	err = m.visit(ctx, len(read), func(i int) (place, []byte) { return read[i].place, read[i].old }, func(i int) error {
		v := renamed{moved: read[i], prfKey: -1}
		verdict, err := m.hide(ctx, sc, &v, c)
		if err == nil && m.repeats() && v.inPlace() && len(v.tags) > 0 && (verdict == toWrite || verdict == alreadyDone) {
			tagAgain = append(tagAgain, v)
		}
		switch {
		case err != nil:
			return err
		case verdict != toWrite:
			c.leave(verdict)
		case v.inPlace() && m.DryRun:
			c.written(&v.value, len(v.old))
		case v.inPlace():
			stay = append(stay, swap{v.entry, v.value})
		default:
			move = append(move, v)
		}
		return nil
	})
	if err == nil {
		err = m.checkOpened(ctx, c)
	}
	if err != nil {
		return nil, err
	}
	if err := m.tag(ctx, tagAgain); err != nil {
		return nil, err
	}
	changed, err := m.write(ctx, stay, c)
	if err != nil {
		return nil, err
	}
	again, err := m.rename(ctx, move, c)
	return append(changed, again...), err
}

// repeats reports whether entries may have been moved before a failover or a stop. In a Cluster a failover may have lost
// their tags, which are on other nodes than the entries.
func (m *migration) repeats() bool {
	m.walk.Mu.Lock()
	defer m.walk.Mu.Unlock()
	return !m.DryRun && m.Operation != Unseal && (m.walk.Restarts > 0 || m.before.Runs > 1)
}

// hide sets the new value of an entry and its new name. The verdict concerns the value. An error concerns a server or the
// key service.
func (m *migration) hide(ctx context.Context, sc *scratch, v *renamed, c *Counts) (verdict, error) {
	h, n, ok := cachevalue.Header(v.old)
	switch {
	case wire.IsSealed(v.old) && !ok:
		return unknownFormat, nil
	case ok && h.Flags&wire.Hidden != 0:
		return m.hideAgain(ctx, sc, v, h, n, c)
	}
	// The entry has a plain name, even if that looks like a pseudonym.
	if verdict := m.place(v, v.key); verdict != toWrite {
		return verdict, nil
	}
	switch {
	case m.Operation == Unseal && !ok && v.inPlace(): // the scan of another master may have restored it
		return alreadyDone, nil
	case m.Operation == Unseal:
		return m.transform(ctx, sc, v.place, &v.value, c)
	case m.Operation == Reseal && ok:
		return plainName, nil
	case !ok:
		return m.hidePlaintext(ctx, sc, v)
	}
	o, verdict, err := m.openLabelled(ctx, v, h, n, c)
	if verdict != toWrite || err != nil {
		return verdict, err
	}
	return m.sealHidden(ctx, sc, v, h, o.plaintext)
}

// hideAgain is hide for a value whose name is hidden.
func (m *migration) hideAgain(ctx context.Context, sc *scratch, v *renamed, h wire.Header, n int, c *Counts) (verdict, error) {
	if m.isTarget(v.name) {
		return alreadyDone, nil // a run with Config.To has put it there
	}
	if !pseudonym.Is(v.key) {
		return unknownFormat, nil // no Store reads a hidden value under a plain name
	}
	o, verdict, err := m.openLabelled(ctx, v, h, n, c)
	if verdict != toWrite || err != nil {
		return verdict, err
	}
	if v.prfKey = m.names.from.Index(h.PRFKey); v.prfKey < 0 {
		return unknownPRFKey, nil
	}
	if h.Flags&wire.Named == 0 {
		return m.hideOneWay(ctx, sc, v, h, n, o)
	}
	hidden, err := m.names.from.AppendKey(nil, v.prfKey, v.appKey)
	if err != nil {
		return 0, fmt.Errorf("migrate: cannot compute the hidden name of an entry: %w", err)
	}
	if string(hidden) != v.key {
		return unknownPRFKey, nil // another key of the same id
	}
	if verdict := m.place(v, v.appKey); verdict != toWrite {
		return verdict, nil
	}
	switch {
	case m.Operation == Unseal:
		return m.unsealed(&v.value, h, o.plaintext)
	case v.inPlace() && m.names.oneWay: // the application was changed to one-way keys: the key must not stay in the value
		return m.sealHidden(ctx, sc, v, h, o.plaintext)
	case v.inPlace():
		return m.resealHidden(ctx, sc, v, h, n, o)
	default:
		return m.sealHidden(ctx, sc, v, h, o.plaintext)
	}
}

// hideOneWay is for a value that does not hold its key. Only its AEAD key can change.
func (m *migration) hideOneWay(ctx context.Context, sc *scratch, v *renamed, h wire.Header, n int, o opened) (verdict, error) {
	if m.filters() {
		return 0, errOneWayFilters
	}
	if v.prfKey != 0 || m.Operation == Unseal || m.To != nil {
		return oneWayName, nil
	}
	v.to, v.toKey = v.name, v.key
	return m.resealHidden(ctx, sc, v, h, n, o)
}

var errOneWayFilters = fmt.Errorf("%w: one-way names cannot be selected by prefix (unset Config.From.Prefix, Config.Exclude)", ErrConfig)

// resealHidden seals a value again under its name, if Reseal has to.
func (m *migration) resealHidden(ctx context.Context, sc *scratch, v *renamed, h wire.Header, n int, o opened) (verdict, error) {
	if m.Operation != Reseal || o.underKeys && m.present.names(v.old[n:]) {
		return alreadyDone, nil
	}
	return m.sealAs(ctx, sc, v.place, &v.value, h, o.plaintext)
}

// place sets where the entry of an application's key belongs.
func (m *migration) place(v *renamed, key string) verdict {
	p, appKey, where := m.resolve(key)
	switch where {
	case nameExcluded:
		return excluded
	case nameTaken:
		p.key = v.key // the value is still bound to it
		v.place, v.appKey = p, appKey
		return toWrite
	default:
		return outside
	}
}

// isTarget reports whether a stored name is a hidden name in the namespace of Config.To, if that is another namespace.
func (m *migration) isTarget(stored string) bool {
	if m.To == nil {
		return false
	}
	start := len(m.To.namespace())
	return len(stored) == start+pseudonym.Size && stored[:start] == m.To.namespace() && pseudonym.Is(stored[start:])
}

// openLabelled opens a value and sets the tags and, if it has one, the key of v.
func (m *migration) openLabelled(ctx context.Context, v *renamed, h wire.Header, n int, c *Counts) (opened, verdict, error) {
	o := opened{bound: true}
	plaintext, index, err := m.opens.Open(ctx, !m.present.names(v.old[n:]), v.key, v.old, n)
	switch {
	case box.Refused(err):
		c.refused(err)
		return o, unreadable, nil
	case err != nil:
		return o, 0, fmt.Errorf("migrate: cannot open a value: %w", err)
	}
	o.underKeys = c.openedBy(index)
	labels, err := content.Labels(h, plaintext)
	if err != nil {
		return o, unknownFormat, nil //nolint:nilerr // it opened, so a newer release may know it
	}
	o.plaintext, v.tags = plaintext, labels.Tags
	if h.Flags&wire.Named != 0 {
		v.appKey = labels.Key
	}
	return o, toWrite, nil
}

// hidePlaintext seals a plaintext value for its hidden name.
func (m *migration) hidePlaintext(ctx context.Context, sc *scratch, v *renamed) (verdict, error) {
	if verdict := m.mayBeSealed(&v.value); verdict != toWrite {
		return verdict, nil
	}
	return m.sealHidden(ctx, sc, v, wire.Header{Type: m.sealed}, v.old)
}

// sealHidden seals a plaintext, packed as h says, for a hidden name.
func (m *migration) sealHidden(ctx context.Context, sc *scratch, v *renamed, h wire.Header, plaintext []byte) (verdict, error) {
	if len(v.appKey) > pseudonym.MaxNameBytes {
		return tooLarge, nil
	}
	plaintext, err := content.Relabel(&h, plaintext, m.names.flags(), wire.Labels{Key: v.appKey, Tags: v.tags})
	switch {
	case errors.Is(err, wire.ErrTooLarge):
		return tooLarge, nil
	case err != nil:
		return unknownFormat, nil //nolint:nilerr // it opened, so a newer release may know it
	}
	h.PRFKey = m.names.to.ID(0)
	return m.sealAs(ctx, sc, v.place, &v.value, h, plaintext)
}
