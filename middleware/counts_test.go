package middleware_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/sealcache/sealcache/middleware"
	"github.com/sealcache/sealcache/stores/memorystore"
)

type counting struct{ *memorystore.Store }

func (c *counting) Capabilities() (owner any, names []string) { return c, []string{"Counter"} }

func (c *counting) Counts() map[string]int64 {
	return map[string]int64{"batches": 2, "combined": 40, "waiting": 7, "unknown": 1}
}

// Counts of the backing store are metrics until the Store is closed.
func TestCountsOfTheBackingStore(t *testing.T) {
	t.Parallel()
	reader := sdkmetric.NewManualReader()
	inner, err := memorystore.New()
	require.NoError(t, err)
	s := sealed(t, &counting{inner}, keyring(t),
		middleware.WithMeterProvider(sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader))))
	collected := func() map[string]int64 {
		var data metricdata.ResourceMetrics
		require.NoError(t, reader.Collect(t.Context(), &data))
		values := map[string]int64{}
		for _, scope := range data.ScopeMetrics {
			for _, m := range scope.Metrics {
				switch d := m.Data.(type) {
				case metricdata.Sum[int64]:
					for _, p := range d.DataPoints {
						values[m.Name] += p.Value
					}
				case metricdata.Gauge[int64]:
					for _, p := range d.DataPoints {
						values[m.Name] += p.Value
					}
				}
			}
		}
		return values
	}
	_, err = s.With(middleware.WithAuthenticatedExpiry())
	require.NoError(t, err)
	require.Equal(t, map[string]int64{
		"sealcache.store.batches": 2, "sealcache.store.combined": 40, "sealcache.store.waiting": 7,
	}, collected())
	require.NoError(t, s.Close())
	require.Empty(t, collected())
}
