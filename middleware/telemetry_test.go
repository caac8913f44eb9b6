package middleware_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/eko/gocache/lib/v4/store"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/sealcache/sealcache/middleware"
)

func counts(t *testing.T, r sdkmetric.Reader, name string, by ...attribute.Key) map[string]int64 {
	t.Helper()
	var data metricdata.ResourceMetrics
	require.NoError(t, r.Collect(t.Context(), &data))
	out := map[string]int64{}
	for _, scope := range data.ScopeMetrics {
		for _, m := range scope.Metrics {
			if m.Name != name {
				continue
			}
			for _, p := range m.Data.(metricdata.Sum[int64]).DataPoints {
				var parts []string
				for _, k := range by {
					v, _ := p.Attributes.Value(k)
					parts = append(parts, v.AsString())
				}
				out[strings.Join(parts, " ")] += p.Value
			}
		}
	}
	return out
}

func TestTelemetry(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	reader := sdkmetric.NewManualReader()
	spans := tracetest.NewSpanRecorder()
	m := memory(t)
	s := sealed(t, m, envelope(t), middleware.WithNamespace("ns"), middleware.WithMissOnOpenFailure(),
		middleware.WithLogger(slog.New(slog.NewTextHandler(&log, nil))),
		middleware.WithMeterProvider(sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader))),
		middleware.WithTracerProvider(sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans))))

	require.NoError(t, s.Set(t.Context(), canary, canary))
	_, err := s.Get(t.Context(), canary)
	require.NoError(t, err)
	_, err = s.Get(t.Context(), "absent-"+canary)
	require.ErrorIs(t, err, store.NotFound{})
	require.NoError(t, m.Set(t.Context(), "ns:"+canary, canary))
	_, err = s.Get(t.Context(), canary)
	require.ErrorIs(t, err, store.NotFound{})
	require.ErrorIs(t, s.Set(t.Context(), canary, named(canary)), middleware.ErrUnsupportedType)
	require.NoError(t, s.Delete(t.Context(), canary))

	require.Equal(t, map[string]int64{
		"Set ok ns memory": 1, "Set unsupported_type ns memory": 1, "Get ok ns memory": 1, "Get miss ns memory": 1,
		"Get not_sealed ns memory": 1, "Delete ok ns memory": 1,
	}, counts(t, reader, "sealcache.operations", "sealcache.operation", "sealcache.outcome", "sealcache.namespace", "sealcache.store"))

	var names []string
	for _, sp := range spans.Ended() {
		names = append(names, sp.Name())
	}
	require.Equal(t, []string{"sealcache.Set", "sealcache.Get", "sealcache.Get", "sealcache.Get", "sealcache.Set", "sealcache.Delete"}, names)
	require.Contains(t, log.String(), "reason=not_sealed", "an unreadable value that counts as a miss is still logged")

	// No report holds a key name or a value.
	var data metricdata.ResourceMetrics
	require.NoError(t, reader.Collect(t.Context(), &data))
	for what, said := range map[string]string{"log": log.String(), "spans": fmt.Sprintf("%+v", spans.Ended()), "metrics": fmt.Sprintf("%+v", data)} {
		require.NotContains(t, said, canary, what)
	}
	for _, sp := range spans.Ended() {
		require.NotContains(t, fmt.Sprintf("%v %v %v", sp.Attributes(), sp.Events(), sp.Status()), canary)
	}
}

func TestPlaintextIsCounted(t *testing.T) {
	t.Parallel()
	reader := sdkmetric.NewManualReader()
	m := memory(t)
	s := sealed(t, m, envelope(t), middleware.WithPlaintext(middleware.SealOnRead),
		middleware.WithMeterProvider(sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader))))
	require.NoError(t, m.Set(t.Context(), "k", "clear"))
	for range 3 {
		_, err := s.Get(t.Context(), "k")
		require.NoError(t, err)
	}
	require.Equal(t, map[string]int64{"read": 1, "resealed": 1}, counts(t, reader, "sealcache.plaintext", "sealcache.plaintext"))
}

// Log lines about single values are limited, so that an attacker who plants values cannot fill the disk.
func TestLogIsBounded(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	m := memory(t)
	s := sealed(t, m, keyring(t), middleware.WithLogger(slog.New(slog.NewTextHandler(&log, nil))))
	require.NoError(t, m.Set(t.Context(), "k", "clear"))
	for range 1000 {
		_, err := s.Get(t.Context(), "k")
		require.ErrorIs(t, err, middleware.ErrNotSealed)
	}
	lines := strings.Count(log.String(), "\n")
	require.GreaterOrEqual(t, lines, 1)
	require.LessOrEqual(t, lines, 30)
}

func TestPrintedStoreShowsNothing(t *testing.T) {
	t.Parallel()
	s := sealed(t, memory(t), keyring(t), middleware.WithNamespace(canary))
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%d", "%x"} {
		require.Equal(t, "middleware.Store(memory)", fmt.Sprintf(verb, s), verb)
	}
}
