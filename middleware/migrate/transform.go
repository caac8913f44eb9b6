package migrate

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/middleware/internal/box"
	"github.com/sealcache/sealcache/middleware/internal/cachevalue"
	"github.com/sealcache/sealcache/middleware/internal/wire"
)

// verdict says whether an entry is written, or why not.
type verdict int

const (
	toWrite verdict = iota
	alreadyDone
	isPlaintext
	unreadable // or under an unknown key; counted already
	unknownFormat
	wrongType
	leftNumber
	expired
	hyperLogLog
	tooLarge
	plainName
	oneWayName
	unknownPRFKey
	outside // of the filters
	excluded
)

func (c *Counts) leave(v verdict) {
	switch v {
	case alreadyDone:
		c.AlreadyDone++
	case isPlaintext:
		c.Plaintext++
	case unknownFormat:
		c.UnknownFormat++
	case wrongType:
		c.WrongType++
	case leftNumber:
		c.Numbers++
	case expired:
		c.Expired++
	case hyperLogLog:
		c.other("HyperLogLog", 1)
	case tooLarge:
		c.TooLarge++
	case plainName:
		c.PlainNames++
	case oneWayName:
		c.OneWay++
	case unknownPRFKey:
		c.UnknownPRFKey++
	case outside:
		c.Seen--
	case excluded:
		c.Excluded++
	case toWrite, unreadable:
	}
}

// refused counts a value that did not open.
func (c *Counts) refused(err error) {
	switch {
	case err == nil:
	case errors.Is(err, aead.ErrUnknownKey):
		c.UnknownKey++
	default:
		c.Unreadable++
	}
}

// value is an old value and its replacement.
type value struct {
	old  []byte
	next []byte
	// plaintext and header describe next. A moved entry is compared with them when it is read back.
	plaintext []byte
	header    wire.Header     // of next, zero if it is not sealed
	form      cachevalue.Form // of a plaintext value that is to be sealed
	end       int64           // Unix milliseconds: next must not outlive it; 0 is none
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

// scratch is the memory of a batch: sealed values, one after the other.
type scratch struct{ arena []byte }

// opened is a value that opened.
type opened struct {
	plaintext []byte
	bound     bool // to its target
	underKeys bool // Config.Keys opened it
}

// open opens a sealed value and counts it if it opens. A refusal is about the value; another error is not.
func (m *migration) open(ctx context.Context, p place, old []byte, n int, c *Counts) (opened, error) {
	lastFirst := !m.present.names(old[n:])
	o := opened{bound: !m.rebinds()}
	var index int
	var err error
	if m.rebinds() && m.inPlace() {
		// An earlier run or the application may have bound it already.
		o.plaintext, index, err = m.arrived.Open(ctx, lastFirst, p.toKey, old, n)
		o.bound = err == nil || !box.Refused(err)
	}
	if !o.bound || !m.rebinds() {
		o.plaintext, index, err = m.opens.Open(ctx, lastFirst, p.key, old, n)
	}
	if err != nil {
		return o, err
	}
	o.underKeys = c.openedBy(index)
	return o, nil
}

// openedBy counts a value that the key at an index of allKeys opened. It reports whether Config.Keys is that key.
func (c *Counts) openedBy(index int) (underKeys bool) {
	c.Opened++
	if index == 0 {
		c.OpenedUnderKeys++
	}
	return index == 0
}

// transform sets v.next. The verdict concerns the value. An error concerns the key service or the context.
func (m *migration) transform(ctx context.Context, sc *scratch, p place, v *value, c *Counts) (verdict, error) {
	if !wire.IsSealed(v.old) {
		return m.transformPlaintext(ctx, sc, p, v)
	}
	h, n, ok := cachevalue.Header(v.old)
	if !ok || h.Flags&wire.Hidden != 0 && (m.rebinds() || m.Operation == Unseal) { // the new name needs the PRF key
		return unknownFormat, nil
	}
	o, err := m.open(ctx, p, v.old, n, c)
	switch {
	case box.Refused(err):
		c.refused(err)
		return unreadable, nil
	case err != nil:
		return 0, fmt.Errorf("migrate: cannot open a value: %w", err)
	case o.bound && (m.Operation == Seal || m.Operation == Reseal && o.underKeys && m.present.names(v.old[n:])):
		return alreadyDone, nil
	case m.Operation != Unseal:
		return m.sealAs(ctx, sc, p, v, h, o.plaintext)
	default:
		return m.unsealed(v, h, o.plaintext)
	}
}

// unsealed sets the plaintext of a value that was opened, packed as h says. It must not outlive the sealed end.
func (m *migration) unsealed(v *value, h wire.Header, plaintext []byte) (verdict, error) {
	if h.Expired(time.Now()) { // readers treat it as absent, and its plaintext would exist again
		return expired, nil
	}
	v.end = h.End
	_, plaintext, err := m.packer.Unpack(h, plaintext)
	if err == nil {
		v.next, err = cachevalue.Text(h.Type, plaintext)
	}
	switch {
	case errors.Is(err, wire.ErrUnsupportedFormat), errors.Is(err, wire.ErrTooLarge):
		return unknownFormat, nil
	case errors.Is(err, cachevalue.ErrNoForm):
		return wrongType, nil
	}
	v.plaintext = v.next
	return toWrite, err
}

func (m *migration) transformPlaintext(ctx context.Context, sc *scratch, p place, v *value) (verdict, error) {
	switch {
	case m.Operation == Unseal && m.inPlace():
		return alreadyDone, nil
	case m.Operation == Unseal:
		v.next, v.plaintext = v.old, v.old
		return toWrite, nil
	}
	if verdict := m.mayBeSealed(v); verdict != toWrite {
		return verdict, nil
	}
	return m.sealAs(ctx, sc, p, v, wire.Header{Type: m.sealed}, v.old)
}

// mayBeSealed sets the form of a plaintext value. The verdict is toWrite if Seal seals the value.
func (m *migration) mayBeSealed(v *value) verdict {
	v.form = cachevalue.FormOf(v.old)
	switch {
	case v.form == cachevalue.HyperLogLog:
		return hyperLogLog
	case v.form == cachevalue.Number && m.LeaveNumbers:
		return leftNumber
	case m.Operation == Reseal:
		return isPlaintext
	case !cachevalue.Fits(m.sealed, v.old):
		return wrongType
	default:
		return toWrite
	}
}

// sealAs seals a plaintext, as the flags of h say it is packed.
func (m *migration) sealAs(ctx context.Context, sc *scratch, p place, v *value, h wire.Header, plaintext []byte) (verdict, error) {
	h.Kind = wire.CacheValue
	start := len(sc.arena)
	out, err := m.seals.Seal(ctx, sc.arena, h, plaintext, p.toKey)
	if err != nil {
		return 0, fmt.Errorf("migrate: cannot seal a value: %w", err)
	}
	sc.arena = out
	v.next, v.plaintext, v.header = out[start:len(out):len(out)], plaintext, h
	m.present.note(v.next[h.Size():])
	return toWrite, nil
}

// visit calls visit for each value, those under one data key together.
func (m *migration) visit(ctx context.Context, n int, value func(i int) (place, []byte), visit func(i int) error) error {
	dataKey := func(i int) string {
		_, old := value(i)
		return cachevalue.DataKey(old)
	}
	open := func(ctx context.Context, i int) {
		p, old := value(i)
		_, n, _ := cachevalue.Header(old)
		_, _, _ = m.opens.Open(ctx, !m.present.names(old[n:]), p.key, old, n)
	}
	return cachevalue.ByDataKey(ctx, n, dataKey, open, visit)
}
