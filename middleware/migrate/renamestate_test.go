package migrate

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/middleware/internal/rediswalk"
	"github.com/sealcache/sealcache/middleware/internal/wire"
)

// A row has the states after an original is the same, has changed, or is gone, and after its deletion was not answered.
func TestCopyStates(t *testing.T) {
	t.Parallel()
	events := []originalEvent{originalSame, originalChanged, originalGone, deletionSent}
	for before, after := range map[copyState][]copyState{
		notCopied:  {notCopied, notCopied, notCopied, notCopied},
		ownCopy:    {ownCopy, staleCopy, staleCopy, sharedCopy},
		sharedCopy: {sharedCopy, staleCopy, sharedCopy, sharedCopy},
		staleCopy:  {staleCopy, staleCopy, staleCopy, staleCopy},
	} {
		for i, e := range events {
			require.Equal(t, after[i], before.after(e), "state %d, event %d", before, e)
		}
	}
}

// sealedBytes has the form of a sealed value.
func sealedBytes(text string) []byte {
	return append([]byte{0xC1, 0x5C}, fmt.Sprintf("%40s", text)...)
}

func readAs(text string) *renamed {
	return &renamed{moved: moved{entry: entry{name: "old", place: place{to: "new"}}, value: value{old: sealedBytes(text)}, expires: -1}}
}

func copiedAs(text string, next []byte) *renamed {
	v := readAs(text)
	v.next = next
	return v
}

// Each row is what happens to one entry, and the copies that the run deletes if it ends then.
func TestUnfinishedCopies(t *testing.T) {
	t.Parallel()
	require.True(t, wire.IsSealed(sealedBytes("v1")))
	const never = int64(-1)
	one, two := sealedBytes("copy 1"), sealedBytes("copy 2")
	know := func(c *claims, original string, copied []byte, state copyState) copyState {
		return c.know(readAs(original), copied, never, state)
	}
	record := func(c *claims, original string, e originalEvent) { c.recordEvent(readAs(original), e) }
	read := func(c *claims, original string) {
		v := readAs(original)
		require.Empty(t, c.read([]entry{v.entry}, []moved{v.moved}, nil))
	}
	for name, row := range map[string]struct {
		do   func(t *testing.T, c *claims)
		left [][]byte
	}{
		"a copy is written": {func(_ *testing.T, c *claims) { know(c, "v1", one, ownCopy) }, [][]byte{one}},
		"a copy is found":   {func(_ *testing.T, c *claims) { know(c, "v1", one, sharedCopy) }, nil},
		"the deletion is not answered": {func(_ *testing.T, c *claims) {
			know(c, "v1", one, ownCopy)
			record(c, "v1", deletionSent)
		}, nil},
		"the same, and the original is read again": {func(t *testing.T, c *claims) {
			know(c, "v1", one, ownCopy)
			record(c, "v1", deletionSent)
			read(c, "v1")
			require.Equal(t, sharedCopy, know(c, "v1", two, ownCopy))
			record(c, "v1", originalGone)
		}, nil},
		"the same, and the original has changed": {func(t *testing.T, c *claims) {
			know(c, "v1", one, ownCopy)
			record(c, "v1", deletionSent)
			read(c, "v2")
			require.Equal(t, ownCopy, know(c, "v2", two, ownCopy))
		}, [][]byte{one, two}},
		"the same, by an answer": {func(t *testing.T, c *claims) {
			know(c, "v1", one, ownCopy)
			record(c, "v1", deletionSent)
			record(c, "v1", originalChanged)
			require.Equal(t, ownCopy, know(c, "v2", two, ownCopy))
		}, [][]byte{one, two}},
		"a found copy whose original has changed": {func(_ *testing.T, c *claims) {
			know(c, "v1", one, sharedCopy)
			record(c, "v1", originalChanged)
		}, [][]byte{one}},
		"a found copy whose original is gone": {func(_ *testing.T, c *claims) {
			know(c, "v1", one, sharedCopy)
			record(c, "v1", originalGone)
		}, nil},
		"the entry is finished": {func(t *testing.T, c *claims) {
			know(c, "v1", one, ownCopy)
			c.answered(copiedAs("v1", one), true)
			c.forget("old")
			require.Empty(t, c.open)
		}, nil},
		"the same, and a former write was not answered": {func(_ *testing.T, c *claims) {
			know(c, "v1", one, ownCopy)
			know(c, "v1", two, ownCopy)
			c.answered(copiedAs("v1", two), true)
			c.forget("old")
		}, [][]byte{one}},
		"the same, but it was found": {func(t *testing.T, c *claims) {
			know(c, "v1", one, ownCopy)
			_, known := c.knows("old", one)
			require.True(t, known)
			c.forget("old")
			require.Empty(t, c.open)
		}, nil},
		"the application has deleted the entry": {func(_ *testing.T, c *claims) {
			know(c, "v1", one, ownCopy)
			c.answered(copiedAs("v1", one), true)
			record(c, "v1", originalGone)
			c.forget("old")
		}, [][]byte{one}},
		"the new name is taken": {func(t *testing.T, c *claims) {
			know(c, "v1", one, ownCopy)
			c.answered(copiedAs("v1", one), false)
			require.Empty(t, c.open)
		}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newClaims()
			row.do(t, c)
			var left []identity
			for _, call := range c.unfinishedCopies() {
				require.Equal(t, []string{"new"}, call.Keys)
				tail, ok := call.Args[0].(string)
				require.True(t, ok)
				size, ok := call.Args[1].(int)
				require.True(t, ok)
				left = append(left, identity{tail, size})
			}
			var want []identity
			for _, copied := range row.left {
				want = append(want, identityOf(copied))
			}
			require.ElementsMatch(t, want, left)
		})
	}
}

// A run knows plaintext that it has left until a deletion of it was answered, or its original is gone.
func TestPlaintextIsLeftUntilItIsDropped(t *testing.T) {
	t.Parallel()
	const never = -1
	left := func(change func(c *claims)) bool {
		c := newClaims()
		v := copiedAs("v1", []byte("plaintext"))
		v.to = "new"
		c.recordPlaintext(v)
		require.True(t, c.hasPlaintext("old", []byte("plaintext"), v.until()))
		change(c)
		return c.hasPlaintext("old", []byte("plaintext"), v.until())
	}
	until := copiedAs("v1", nil).until()
	drop := func(to, plaintext string, expires int64) func(c *claims) {
		return func(c *claims) {
			c.dropped(&rediswalk.Call{Keys: []string{to}, Args: []any{[]byte(plaintext), len(plaintext), expires}})
		}
	}
	require.False(t, left(drop("new", "plaintext", until)), "what comes later is of the application")
	require.True(t, left(drop("another", "plaintext", until)))
	require.True(t, left(drop("new", "another", until)))
	require.True(t, left(drop("new", "plaintext", until+1)))
	require.False(t, left(func(c *claims) { c.read([]entry{{name: "old"}}, nil, nil) }), "the original is gone")
	require.True(t, left(func(c *claims) {
		c.dropped(&rediswalk.Call{Keys: []string{"new"}, Args: []any{[]byte("plaintext"), 9}})
	}))
	require.Equal(t, int64(never), until)
}

// An original that is not found any more makes own copies stale, and only those.
func TestReadingAGoneOriginal(t *testing.T) {
	t.Parallel()
	for state, calls := range map[copyState]int{ownCopy: 1, sharedCopy: 0} {
		c := newClaims()
		c.know(readAs("v1"), sealedBytes("copy"), -1, state)
		require.Len(t, c.read([]entry{readAs("v1").entry}, nil, nil), calls)
		require.Len(t, c.unfinishedCopies(), calls)
	}
}

// An original that is of another type now makes all its copies stale.
func TestReadingAnOriginalOfAnotherType(t *testing.T) {
	t.Parallel()
	for _, state := range []copyState{ownCopy, sharedCopy} {
		c := newClaims()
		c.know(readAs("v1"), sealedBytes("copy"), -1, state)
		original := []entry{readAs("v1").entry}
		require.Len(t, c.read(original, nil, original), 1)
		require.Len(t, c.unfinishedCopies(), 1)
	}
}

// Only one batch has a name at a time.
func TestClaims(t *testing.T) {
	t.Parallel()
	c := newClaims()
	a, b := entry{name: "a"}, entry{name: "b"}
	own, release := c.claim([]entry{a, a})
	require.Equal(t, []entry{a}, own)
	others, releaseOthers := c.claim([]entry{a, b})
	require.Equal(t, []entry{b}, others)
	release()
	own, release = c.claim([]entry{a, b})
	require.Equal(t, []entry{a}, own)
	release()
	releaseOthers()
	require.Empty(t, c.names)
}
