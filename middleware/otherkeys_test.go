package middleware_test

import (
	"fmt"
	"maps"
	"testing"

	"github.com/stretchr/testify/require"
	tinkaead "github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/tink"
	"go.opentelemetry.io/otel/attribute"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/middleware"
)

// rotatedRings returns a keyring of one key, one with a second key as the primary key, and the id of the first key.
func rotatedRings(t *testing.T) (before, after *aead.Keyring, old uint32) {
	t.Helper()
	h, err := keyset.NewHandle(tinkaead.AES256GCMKeyTemplate())
	require.NoError(t, err)
	before, err = aead.NewKeyring(h)
	require.NoError(t, err)
	t.Cleanup(func() { _ = before.Close() })
	m := keyset.NewManagerFromHandle(h)
	id, err := m.Add(tinkaead.AES256GCMKeyTemplate())
	require.NoError(t, err)
	require.NoError(t, m.SetPrimary(id))
	both, err := m.Handle()
	require.NoError(t, err)
	after, err = aead.NewKeyring(both)
	require.NoError(t, err)
	t.Cleanup(func() { _ = after.Close() })
	return before, after, h.KeysetInfo().GetPrimaryKeyId()
}

// Reads under a former key are counted by its id, in Go and as a metric. Reads under the primary key, probes and values that do
// not open are not.
func TestOtherKeyReads(t *testing.T) {
	t.Parallel()
	ringBefore, ringAfter, old := rotatedRings(t)
	over := func(ring *aead.Keyring) tink.AEADWithContext {
		e, err := aead.NewEnvelope(t.Context(), ring)
		require.NoError(t, err)
		t.Cleanup(func() { _ = e.Close() })
		return e
	}
	for name, keys := range map[string][2]tink.AEADWithContext{
		"keyring":  {ringBefore, ringAfter},
		"envelope": {over(ringBefore), over(ringAfter)},
	} {
		backing := memory(t)
		reader := sdkmetric.NewManualReader()
		meters := middleware.WithMeterProvider(sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader)))
		writer := sealed(t, backing, keys[0], middleware.WithNamespace("n"))
		s := sealed(t, backing, keys[1], middleware.WithNamespace("n"), meters)
		require.NoError(t, writer.Set(t.Context(), "old", "value"), name)
		require.NoError(t, s.Set(t.Context(), "new", "value"), name)
		read := func(key string) {
			t.Helper()
			got, err := s.Get(t.Context(), key)
			require.NoError(t, err, name)
			require.Equal(t, "value", got)
		}
		read("new")
		require.NoError(t, s.Check(t.Context()))
		require.Empty(t, s.OtherKeyReads(), name)
		read("old")
		read("old")
		require.Equal(t, map[uint32]uint64{old: 2}, s.OtherKeyReads(), name)

		stored, err := backing.GetBytes(t.Context(), "n:old")
		require.NoError(t, err)
		stored[len(stored)-1] ^= 1
		require.NoError(t, backing.SetBytes(t.Context(), "n:old", stored))
		_, err = s.Get(t.Context(), "old")
		require.ErrorIs(t, err, middleware.ErrUnauthentic, name)
		require.Equal(t, map[uint32]uint64{old: 2}, s.OtherKeyReads(), name)
		require.Equal(t, map[string]int64{fmt.Sprint(old): 2}, otherKeyReads(t, reader), name)
	}
}

// A Store that With makes, as sessions do, shares the counts: the operator asks the Store of the application. Metrics are those of
// the Store that read.
func TestOtherKeyReadsOfWith(t *testing.T) {
	t.Parallel()
	before, after, old := rotatedRings(t)
	backing, reader := memory(t), sdkmetric.NewManualReader()
	require.NoError(t, sealed(t, backing, before).Set(t.Context(), "k", "value"))
	s := sealed(t, backing, after)
	other, err := s.With(middleware.WithMissOnOpenFailure(), middleware.WithMeterProvider(sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader))))
	require.NoError(t, err)
	for _, from := range []*middleware.Store{s, other} {
		_, err = from.Get(t.Context(), "k")
		require.NoError(t, err)
	}
	require.Equal(t, map[uint32]uint64{old: 2}, s.OtherKeyReads())
	require.Equal(t, s.OtherKeyReads(), other.OtherKeyReads())
	require.Equal(t, map[string]int64{fmt.Sprint(old): 1}, otherKeyReads(t, reader))
}

// otherKeyReads returns the values of the metric by key id.
func otherKeyReads(t *testing.T, reader *sdkmetric.ManualReader) map[string]int64 {
	t.Helper()
	var data metricdata.ResourceMetrics
	require.NoError(t, reader.Collect(t.Context(), &data))
	found := map[string]int64{}
	for _, scope := range data.ScopeMetrics {
		for _, m := range scope.Metrics {
			if m.Name != "sealcache.other_key_reads" {
				continue
			}
			for _, p := range m.Data.(metricdata.Sum[int64]).DataPoints { //nolint:forcetypeassert // a counter
				id, ok := p.Attributes.Value(attribute.Key("sealcache.key_id"))
				require.True(t, ok)
				found[id.AsString()] += p.Value
			}
		}
	}
	return found
}

// A Sealer counts the same. Keys that the keyset does not hold count as one.
func TestOtherKeyReadsOfASealer(t *testing.T) {
	t.Parallel()
	before, after, old := rotatedRings(t)
	writer, err := middleware.NewSealer(before)
	require.NoError(t, err)
	value, err := writer.Seal(t.Context(), "a", "value")
	require.NoError(t, err)
	s, err := middleware.NewSealer(after)
	require.NoError(t, err)
	_, err = s.Open(t.Context(), "a", value)
	require.NoError(t, err)
	require.Equal(t, map[uint32]uint64{old: 1}, s.OtherKeyReads())

	stranger, err := middleware.NewSealer(unlisted{before})
	require.NoError(t, err)
	_, err = stranger.Open(t.Context(), "a", value)
	require.NoError(t, err)
	counts := stranger.OtherKeyReads()
	require.Equal(t, map[uint32]uint64{0: 1}, counts)
	maps.DeleteFunc(counts, func(uint32, uint64) bool { return true }) // a copy
	require.Len(t, stranger.OtherKeyReads(), 1)

	none, err := middleware.NewSealer(foreign(t)) // its keys have no ids
	require.NoError(t, err)
	require.Empty(t, none.OtherKeyReads())
}

// unlisted opens under keys that it does not know.
type unlisted struct{ tink.AEADWithContext }

func (unlisted) KeyRole(uint32) (known, primary bool) { return false, false }

// Counting a read under a former key allocates nothing.
func TestOtherKeyReadsAllocateNothing(t *testing.T) { //nolint:paralleltest // AllocsPerRun counts those of the whole process
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	before, after, old := rotatedRings(t)
	memory := &slot{plain: newPlain("slot")}
	writer, s := sealed(t, memory, before), sealed(t, memory, after)
	var key any = "user:1"
	require.NoError(t, writer.Set(t.Context(), key, []byte("value")))
	get := testing.AllocsPerRun(100, func() {
		if _, err := s.Get(t.Context(), key); err != nil {
			panic(err)
		}
	})
	require.LessOrEqual(t, get, 2.0) // as under the primary key
	require.Greater(t, s.OtherKeyReads()[old], uint64(100))
}
