package migrate

import (
	"crypto/sha256"
	"maps"
	"slices"
	"sync"

	"github.com/sealcache/sealcache/middleware/internal/rediswalk"
	"github.com/sealcache/sealcache/middleware/internal/wire"
)

// claims are the entries that batches of this run are renaming, and what it knows of those that it has not finished. Its methods
// are safe for concurrent use.
type claims struct {
	mu    sync.Mutex
	names map[string]bool
	open  map[string]*unfinished
	// late holds deletions of plaintext that were not answered, and may arrive late. They would delete the same plaintext again.
	late map[plaintextAt]bool
	// unsure holds plaintext that Unseal has written, or that may still arrive, and whose hidden entry the application has deleted.
	// It stays, because the application may have written the same. A warning counts it.
	unsure map[plaintextAt]bool
}

func newClaims() *claims {
	return &claims{
		names: make(map[string]bool), open: make(map[string]*unfinished),
		late: make(map[plaintextAt]bool), unsure: make(map[plaintextAt]bool),
	}
}

// plaintextAt is plaintext under a name.
type plaintextAt struct {
	name  string
	plain version
}

// unfinished is what a run knows of an entry that it has not finished. See copyState.
type unfinished struct {
	to     string                 // the new name
	copies map[identity]knownCopy // of entries under the new name that held what the original held
	sent   []version              // that deletions named which may not last: see deletionSent
	plain  map[version]bool       // plaintext that Unseal has left under the new name
}

// identity tells one sealed value from all others. See value.expected.
type identity struct {
	tail string
	size int
}

// version is an original as it was read, and as a deletion names it. It is also plaintext that Unseal has written.
type version struct {
	sum     [sha256.Size]byte // of the bytes that a script compares
	size    int
	expires int64
}

// knownCopy is a copy that the run wrote or saw.
type knownCopy struct {
	of             version // of the original
	expires, until int64   // when the copy and its original expired then, -1 for never
	state          copyState
	answered       bool // its write was answered, or the copy was seen: it does not arrive later
}

func identityOf(sealed []byte) identity {
	v := value{old: sealed}
	tail, size := v.expected()
	return identity{string(tail), size}
}

func versionOf(v *moved) version {
	old, size := v.expected()
	return version{sha256.Sum256(old), size, v.expires}
}

// claim returns those entries that no other batch is renaming, and a function that ends the claim. SCAN may return a name twice,
// so two batches may get it. The other batch answers for the rest: it renames them, or its error ends or repeats it.
func (c *claims) claim(entries []entry) (own []entry, release func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	own = make([]entry, 0, len(entries))
	for _, e := range entries {
		if !c.names[e.name] {
			c.names[e.name] = true
			own = append(own, e)
		}
	}
	names := namesOf(own)
	return own, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		for _, name := range names {
			delete(c.names, name)
		}
	}
}

// read records that entries were read. Copies of another version are stale, and so are those of entries that are of another type
// now. Own copies of entries that were not found are stale, too. It returns the calls that delete the copies of entries that have
// no value.
func (c *claims) read(entries []entry, found []moved, others []entry) (back []*rediswalk.Call) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.open) == 0 {
		return nil
	}
	there := make(map[string]*moved, len(found))
	for i := range found {
		there[found[i].name] = &found[i]
	}
	for _, e := range others {
		if of := c.open[e.name]; of != nil {
			of.applyEvent(originalChanged)
		}
	}
	for _, e := range entries {
		of := c.open[e.name]
		if of == nil {
			continue
		}
		v := there[e.name]
		if v == nil {
			if len(of.sent) == 0 { // otherwise the run may have deleted it
				for plain := range of.plain {
					c.unsure[plaintextAt{of.to, plain}] = true
				}
			}
			clear(of.plain)
			of.applyEvent(originalGone)
			back = append(back, of.remove()...)
			continue
		}
		now := versionOf(v)
		for id, known := range of.copies {
			if known.of != now {
				known.state = known.state.after(originalChanged)
				of.copies[id] = known
			}
		}
	}
	return back
}

// know records that a value, which is or may be stored under the new name, holds what the original holds. It returns the state of
// this copy. Plaintext has no identity, and the application may have written the same: such a copy is shared and not recorded.
func (c *claims) know(v *renamed, stored []byte, expires int64, state copyState) copyState {
	if !wire.IsSealed(stored) {
		return sharedCopy
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	of := c.of(v.name)
	of.to = v.to
	now := versionOf(&v.moved)
	if slices.Contains(of.sent, now) {
		state = sharedCopy
	}
	of.copies[identityOf(stored)] = knownCopy{of: now, expires: expires, until: v.until(), state: state}
	return state
}

// answered records whether the copy of v was written.
func (c *claims) answered(v *renamed, written bool) {
	if !wire.IsSealed(v.next) {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	of := c.open[v.name]
	if of == nil {
		return
	}
	id := identityOf(v.next)
	if known, ok := of.copies[id]; ok && written {
		known.answered = true
		of.copies[id] = known
		return
	}
	delete(of.copies, id)
	if len(of.copies) == 0 && len(of.sent) == 0 {
		delete(c.open, v.name)
	}
}

// recordPlaintext records that Unseal has left the plaintext of v under the new name. Only its expiry distinguishes it
// from other plaintext there. If the original has changed by the next attempt, it is replaced.
func (c *claims) recordPlaintext(v *renamed) {
	c.mu.Lock()
	defer c.mu.Unlock()
	of := c.of(v.name)
	of.to = v.to
	of.plain[plainVersion(v.next, v.until())] = true
}

// dropped records that a call which deletes plaintext was answered: what has the same bytes later is of the application.
func (c *claims) dropped(call *rediswalk.Call) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if p, ok := plaintextOf(call); ok {
		for _, of := range c.open {
			if of.to == p.name {
				delete(of.plain, p.plain)
			}
		}
	}
}

// plaintextOf returns what a call of dropCopy deletes, if that is plaintext.
func plaintextOf(call *rediswalk.Call) (p plaintextAt, ok bool) {
	if len(call.Args) < 3 {
		return p, false
	}
	plaintext, isBytes := call.Args[0].([]byte)
	expires, isTime := call.Args[2].(int64)
	return plaintextAt{call.Keys[0], plainVersion(plaintext, expires)}, isBytes && isTime
}

// hasPlaintext reports whether recordPlaintext has recorded a plaintext.
func (c *claims) hasPlaintext(name string, stored []byte, expires int64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	of := c.open[name]
	return of != nil && of.plain[plainVersion(stored, expires)]
}

// delays records a call that deletes plaintext and that was not answered.
func (c *claims) delays(call *rediswalk.Call) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if p, ok := plaintextOf(call); ok {
		c.late[p] = true
	}
}

// delayed reports whether a late deletion would delete the copy of v. Then its original must stay.
func (c *claims) delayed(v *renamed) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.late) > 0 && c.late[plaintextOfCopy(v)]
}

// plaintextOfCopy is the copy of v, which is plaintext.
func plaintextOfCopy(v *renamed) plaintextAt {
	return plaintextAt{v.to, plainVersion(v.next, v.until())}
}

// stays records that the plaintext of v stays although its hidden entry is gone.
func (c *claims) stays(v *renamed) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if of := c.open[v.name]; of == nil || !slices.Contains(of.sent, versionOf(&v.moved)) { // otherwise the run may have deleted it
		c.unsure[plaintextOfCopy(v)] = true
	}
}

// doubts returns unsure.
func (c *claims) doubts() map[plaintextAt]bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.unsure)
}

// counted records that the plaintext of unsure was counted.
func (c *claims) counted() {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.unsure)
}

func plainVersion(plaintext []byte, expires int64) version {
	return versionOf(&moved{value: value{old: plaintext}, expires: expires})
}

// wrote reports whether the copy of v was written.
func (c *claims) wrote(v *renamed) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	of := c.open[v.name]
	return of != nil && of.copies[identityOf(v.next)].answered
}

// knows reports whether a value under the new name holds what the original held before, and returns what know was told.
func (c *claims) knows(name string, stored []byte) (found knownCopy, known bool) {
	if !wire.IsSealed(stored) {
		return found, false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if of := c.open[name]; of != nil {
		id := identityOf(stored)
		if found, known = of.copies[id]; known {
			found.answered = true
			of.copies[id] = found
		}
	}
	return found, known
}

// recordEvent records an event of the original of v, and sets v.copied.
func (c *claims) recordEvent(v *renamed, e originalEvent) {
	v.copied = v.copied.after(e)
	c.mu.Lock()
	defer c.mu.Unlock()
	if e == deletionSent {
		of := c.of(v.name)
		if now := versionOf(&v.moved); !slices.Contains(of.sent, now) {
			of.sent = append(of.sent, now)
		}
	}
	if of := c.open[v.name]; of != nil {
		of.applyEvent(e)
	}
}

// originalRestored reports whether the original of v differs from each version whose deletion may not last. If it does, its
// deletion did not last, and the application has changed it since.
func (c *claims) originalRestored(v *renamed) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	of := c.open[v.name]
	return of != nil && len(of.sent) > 0 && !slices.Contains(of.sent, versionOf(&v.moved))
}

func (u *unfinished) applyEvent(e originalEvent) {
	for id, known := range u.copies {
		known.state = known.state.after(e)
		u.copies[id] = known
	}
}

// forget drops the record of an entry that is finished. It keeps stale copies, which a failover may bring back, and
// copies whose writes were not answered. These copies may still arrive, and are stale then, since another copy is under the new name.
func (c *claims) forget(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	of := c.open[name]
	if of == nil {
		return
	}
	of.sent = nil
	clear(of.plain)
	for id, known := range of.copies {
		if known.answered && known.state != staleCopy {
			delete(of.copies, id)
			continue
		}
		known.state = staleCopy
		of.copies[id] = known
	}
	if len(of.copies) == 0 {
		delete(c.open, name)
	}
}

// unfinishedCopies returns calls that delete the stale and own copies of entries that the run has not finished.
func (c *claims) unfinishedCopies() (calls []*rediswalk.Call) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, of := range c.open {
		calls = append(calls, of.remove()...)
	}
	return calls
}

// leavesCopies reports whether there are shared copies of entries that the run has not finished, or copies that may still
// arrive.
func (c *claims) leavesCopies() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, of := range c.open {
		for _, known := range of.copies {
			if known.state == sharedCopy || !known.answered {
				return true
			}
		}
	}
	return false
}

// copiesOf is unfinishedCopies for some entries.
func (c *claims) copiesOf(moves []renamed) (calls []*rediswalk.Call) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range moves {
		if of := c.open[moves[i].name]; of != nil {
			calls = append(calls, of.remove()...)
		}
	}
	return calls
}

// remove returns calls that delete stale and own copies. It leaves out own copies to which the application has given another
// expiry or value.
func (u *unfinished) remove() (calls []*rediswalk.Call) {
	for id, known := range u.copies {
		call := &rediswalk.Call{Keys: []string{u.to}, Args: []any{id.tail, id.size}}
		switch known.state {
		case staleCopy:
		case ownCopy:
			call.Args = append(call.Args, known.expires)
		default:
			continue
		}
		calls = append(calls, call)
	}
	return calls
}

// of returns what is known of an entry. c.mu is held.
func (c *claims) of(name string) *unfinished {
	if c.open[name] == nil {
		c.open[name] = &unfinished{copies: make(map[identity]knownCopy), plain: make(map[version]bool)}
	}
	return c.open[name]
}
