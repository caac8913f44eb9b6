package migrate

import (
	"context"
	"errors"
	"unsafe"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/middleware"
	"github.com/sealcache/sealcache/middleware/internal/wire"
)

// verdict is what is to be done with an entry, or why nothing is.
type verdict int

const (
	toWrite verdict = iota
	already
	isClear
	unreadable
	unknownKey
	foreign
	refusedForm
	leftNumber
	otherType
)

func (c *Counts) leave(v verdict) {
	switch v {
	case already:
		c.Already++
	case isClear:
		c.Clear++
	case unreadable:
		c.Unreadable++
	case unknownKey:
		c.UnknownKey++
	case foreign:
		c.Foreign++
	case refusedForm:
		c.Refused++
	case leftNumber:
		c.Numbers++
	case otherType:
		c.other("HyperLogLog", 1)
	case toWrite:
	}
}

// value is what an entry holds and what it is to hold.
type value struct {
	old  []byte
	next []byte
	// clear and kind are what next stands for, to be compared with what is read back.
	clear []byte
	kind  wire.Type // 0 for a value in clear
	form  form      // of the old one, if it was in clear and is to be sealed
}

// written counts a value that was written in place of before bytes.
func (c *Counts) written(v *value, before int) {
	c.Written++
	c.BytesWritten += int64(len(v.next))
	c.Growth += int64(len(v.next) - before)
	switch v.form {
	case number:
		c.Numbers++
	case fernet:
		c.Fernet++
	case plain, hyperLogLog:
	}
}

// scratch is what a batch works in.
type scratch struct {
	ad    []byte
	arena []byte // sealed values, one after the other
}

// transform makes of v.old what it is to become. An error is one that is not about the value.
func (m *migration) transform(ctx context.Context, sc *scratch, p place, v *value, c *Counts) (verdict, error) {
	if !wire.IsSealed(v.old) {
		v.form = plain
		if m.Operation != Unseal {
			v.form = formOf(v.old)
		}
		switch {
		case v.form == hyperLogLog:
			return otherType, nil
		case v.form == number && m.LeaveNumbers:
			return leftNumber, nil
		}
		switch m.Operation {
		case Reseal:
			return isClear, nil
		case Unseal:
			if m.inPlace() {
				return already, nil
			}
			v.next, v.clear = v.old, v.old
			return toWrite, nil
		default:
			if !fits(m.sealed, v.old) {
				return refusedForm, nil
			}
			return m.sealAs(ctx, sc, p, v, m.sealed, v.old)
		}
	}
	h, n, ok := cacheHeader(v.old)
	if !ok {
		return foreign, nil
	}
	current := m.keys.is(v.old[n:])
	// What an id says is not believed before the value has opened: another keyset may have a key of the same id.
	var plaintext []byte
	var present bool
	var err error
	bound := !m.rebinds() // to where it is to be
	if m.rebinds() && m.inPlace() {
		// By an earlier run, or by the application?
		plaintext, present, err = openBy(ctx, sc, m.arrived, current, p.toKey, v.old, n)
		bound = err == nil || !refused(err)
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
	case errors.Is(err, aead.ErrUnknownKey) && refused(err):
		return unknownKey, nil
	case refused(err):
		return unreadable, nil
	default:
		return 0, err
	}
	if bound && (m.Operation == Seal || m.Operation == Reseal && current && present) {
		return already, nil
	}
	if m.Operation != Unseal {
		return m.sealAs(ctx, sc, p, v, h.Type, plaintext)
	}
	v.next, err = clearForm(h.Type, plaintext)
	switch {
	case errors.Is(err, middleware.ErrUnsupportedFormat):
		return foreign, nil
	case errors.Is(err, errKind):
		return refusedForm, nil
	}
	v.clear = v.next
	return toWrite, err
}

// cacheHeader reads the header of a sealed cache value, and tells whether it is one that this release knows.
func cacheHeader(b []byte) (wire.Header, int, bool) {
	h, n, err := wire.Parse(b)
	return h, n, err == nil && h.Kind == wire.CacheValue
}

func (m *migration) sealAs(ctx context.Context, sc *scratch, p place, v *value, t wire.Type, plaintext []byte) (verdict, error) {
	start := len(sc.arena)
	out, err := m.seals.seal(ctx, sc.arena, &sc.ad, p.toKey, t, plaintext)
	if err != nil {
		return 0, err
	}
	sc.arena = out
	v.next, v.clear, v.kind = out[start:len(out):len(out)], plaintext, t
	m.keys.note(v.next[wire.HeaderSize:])
	return toWrite, nil
}

// openAny opens a value under any of the keys. Those are tried first that the value seems to be sealed under: to ask a
// key service for what it will refuse costs a call.
func openAny(ctx context.Context, sc *scratch, by []*sealer, current bool, key string, stored []byte, n int) ([]byte, error) {
	plaintext, _, err := openBy(ctx, sc, by, current, key, stored, n)
	return plaintext, err
}

// openBy is openAny, and tells whether it was the first of the keys that opened the value: those of Config.Keys.
func openBy(ctx context.Context, sc *scratch, by []*sealer, current bool, key string, stored []byte, n int) (opened []byte, first bool, err error) {
	var worst error
	for i := range by {
		s := by[i]
		if !current {
			s = by[len(by)-1-i]
		}
		plaintext, err := s.open(ctx, &sc.ad, key, stored, n)
		if err == nil {
			return plaintext, s == by[0], nil
		}
		switch {
		case worst == nil, !refused(err): // an outage is no answer
			worst = err
		case refused(worst) && errors.Is(worst, aead.ErrUnknownKey) && errors.Is(err, aead.ErrUnauthentic):
			worst = err
		}
	}
	return nil, false, worst
}

// bytesOf is s as bytes that must not be written to.
func bytesOf(s string) []byte { return unsafe.Slice(unsafe.StringData(s), len(s)) }
