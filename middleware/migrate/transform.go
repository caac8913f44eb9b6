package migrate

import (
	"context"
	"errors"
	"fmt"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/middleware"
	"github.com/sealcache/sealcache/middleware/internal/cachevalue"
	"github.com/sealcache/sealcache/middleware/internal/wire"
)

// verdict says whether an entry is written, or why not.
type verdict int

const (
	toWrite verdict = iota
	alreadyDone
	isPlaintext
	unreadable
	unknownKey
	unknownFormat
	wrongType
	leftNumber
	otherType
)

func (c *Counts) leave(v verdict) {
	switch v {
	case alreadyDone:
		c.AlreadyDone++
	case isPlaintext:
		c.Plaintext++
	case unreadable:
		c.Unreadable++
	case unknownKey:
		c.UnknownKey++
	case unknownFormat:
		c.UnknownFormat++
	case wrongType:
		c.WrongType++
	case leftNumber:
		c.Numbers++
	case otherType:
		c.other("HyperLogLog", 1)
	case toWrite:
	}
}

// value is an old value and its replacement.
type value struct {
	old  []byte
	next []byte
	// plaintext and kind are what next stands for. A moved entry is compared with them when it is read back.
	plaintext []byte
	kind      wire.Type       // 0 if next is not sealed
	form      cachevalue.Form // of a plaintext value that is to be sealed
}

// written counts a value that replaces before bytes.
func (c *Counts) written(v *value, before int) {
	c.Written++
	c.BytesWritten += int64(len(v.next))
	c.Growth += int64(len(v.next) - before)
	switch v.form {
	case cachevalue.Number:
		c.Numbers++
	case cachevalue.Fernet:
		c.Fernet++
	case cachevalue.Plain, cachevalue.HyperLogLog:
	}
}

// scratch is the memory of a batch.
type scratch struct {
	ad    []byte
	arena []byte // sealed values, one after the other
}

// transform sets v.next. An error is not about the value.
func (m *migration) transform(ctx context.Context, sc *scratch, p place, v *value, c *Counts) (verdict, error) {
	if !wire.IsSealed(v.old) {
		return m.transformPlaintext(ctx, sc, p, v)
	}
	h, n, ok := cachevalue.Header(v.old)
	if !ok {
		return unknownFormat, nil
	}
	current := m.keys.sealed(v.old[n:])
	var plaintext []byte
	var present bool
	var err error
	bound := !m.rebinds() // to its target
	if m.rebinds() && m.inPlace() {
		// An earlier run or the application may have bound it already.
		plaintext, present, err = openBy(ctx, sc, m.arrived, current, p.toKey, v.old, n)
		bound = err == nil || !cachevalue.Refused(err)
	}
	if !bound || !m.rebinds() {
		plaintext, present, err = openBy(ctx, sc, m.opens, current, p.key, v.old, n)
	}
	switch {
	case err == nil:
		c.Opened++
		if present {
			c.OpenedUnderKeys++
		}
	case errors.Is(err, aead.ErrUnknownKey) && cachevalue.Refused(err):
		return unknownKey, nil
	case cachevalue.Refused(err):
		return unreadable, nil
	default:
		return 0, fmt.Errorf("migrate: open: %w", err)
	}
	if bound && (m.Operation == Seal || m.Operation == Reseal && current && present) {
		return alreadyDone, nil
	}
	if m.Operation != Unseal {
		return m.sealAs(ctx, sc, p, v, h.Type, plaintext)
	}
	v.next, err = cachevalue.Text(h.Type, plaintext)
	switch {
	case errors.Is(err, middleware.ErrUnsupportedFormat):
		return unknownFormat, nil
	case errors.Is(err, cachevalue.ErrNoForm):
		return wrongType, nil
	}
	v.plaintext = v.next
	return toWrite, err
}

func (m *migration) transformPlaintext(ctx context.Context, sc *scratch, p place, v *value) (verdict, error) {
	v.form = cachevalue.Plain
	if m.Operation != Unseal {
		v.form = cachevalue.FormOf(v.old)
	}
	switch {
	case v.form == cachevalue.HyperLogLog:
		return otherType, nil
	case v.form == cachevalue.Number && m.LeaveNumbers:
		return leftNumber, nil
	case m.Operation == Reseal:
		return isPlaintext, nil
	case m.Operation == Unseal && m.inPlace():
		return alreadyDone, nil
	case m.Operation == Unseal:
		v.next, v.plaintext = v.old, v.old
		return toWrite, nil
	case !cachevalue.Fits(m.sealed, v.old):
		return wrongType, nil
	default:
		return m.sealAs(ctx, sc, p, v, m.sealed, v.old)
	}
}

func (m *migration) sealAs(ctx context.Context, sc *scratch, p place, v *value, t wire.Type, plaintext []byte) (verdict, error) {
	start := len(sc.arena)
	out, err := m.seals.Seal(ctx, sc.arena, &sc.ad, p.toKey, t, plaintext)
	if err != nil {
		return 0, fmt.Errorf("migrate: %w", err)
	}
	sc.arena = out
	v.next, v.plaintext, v.kind = out[start:len(out):len(out)], plaintext, t
	m.keys.note(v.next[wire.HeaderSize:])
	return toWrite, nil
}

// openBy opens a value under any of the keys, and reports whether Config.Keys did. current says that the value names the
// present key.
func openBy(ctx context.Context, sc *scratch, by []*cachevalue.Sealer, current bool, key string, stored []byte, n int) (opened []byte, underKeys bool, err error) {
	opened, i, err := cachevalue.OpenAny(ctx, &sc.ad, by, !current, key, stored, n)
	return opened, i == 0, err
}

// visit visits values by their data keys.
func (m *migration) visit(ctx context.Context, n int, value func(i int) (place, []byte), visit func(i int) error) error {
	dataKey := func(i int) string {
		_, old := value(i)
		return cachevalue.DataKey(old)
	}
	open := func(ctx context.Context, i int) {
		p, old := value(i)
		_, n, _ := cachevalue.Header(old)
		_, _, _ = openBy(ctx, new(scratch), m.opens, m.keys.sealed(old[n:]), p.key, old, n)
	}
	return cachevalue.ByDataKey(ctx, n, dataKey, open, visit)
}
