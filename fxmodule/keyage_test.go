package fxmodule_test

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/metric"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.uber.org/fx"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/aead/insecurecleartextkeyset"
	"github.com/sealcache/sealcache/fxmodule"
	"github.com/sealcache/sealcache/internal/sealtest"
)

// The age of a key is a metric if its times are next to its keyset.
func TestKeyAge(t *testing.T) {
	t.Parallel()
	kek := sealtest.KEKFile(t)
	path, _, _ := strings.Cut(strings.TrimPrefix(kek, "file://"), "?")
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	h, err := insecurecleartextkeyset.Handle(t.Context(), aead.BytesSource(data))
	require.NoError(t, err)
	id := h.KeysetInfo().GetPrimaryKeyId()
	times, err := aead.SealKeyTimes(h, []aead.KeyTimes{{ID: id, Created: time.Now().Add(-48 * time.Hour)}})
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(path+aead.KeyTimesSuffix, times, 0o600))

	reader := sdkmetric.NewManualReader()
	meters := sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader))
	run(t, one(fxmodule.Cache{Store: "memory://", KEK: kek}), fx.Provide(func() metric.MeterProvider { return meters }),
		fx.Invoke(func(*fxmodule.Keys) {}))
	var found metricdata.ResourceMetrics
	require.NoError(t, reader.Collect(t.Context(), &found))
	var points []metricdata.DataPoint[float64]
	for _, scope := range found.ScopeMetrics {
		for _, m := range scope.Metrics {
			if gauge, ok := m.Data.(metricdata.Gauge[float64]); ok && m.Name == "sealcache.key.age" {
				points = gauge.DataPoints
			}
		}
	}
	require.Len(t, points, 1)
	require.InDelta(t, (48 * time.Hour).Seconds(), points[0].Value, 600)
	key, _ := points[0].Attributes.Value("sealcache.key_id")
	require.EqualValues(t, id, key.AsInt64())
}

// A provider that an application leaves nil is none.
func TestNilMeterProvider(t *testing.T) {
	t.Parallel()
	run(t, one(fxmodule.Cache{Store: "memory://", KEK: sealtest.KEKFile(t), Namespace: "ns"}),
		fx.Provide(func() metric.MeterProvider { return (*sdkmetric.MeterProvider)(nil) }))
}
