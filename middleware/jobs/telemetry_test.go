package jobs_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/sealcache/sealcache/middleware/jobs"
)

func TestCounts(t *testing.T) {
	t.Parallel()
	reader := metric.NewManualReader()
	e := newEncryptor(t, jobs.WithNamespace("ns"), jobs.WithMeterProvider(metric.NewMeterProvider(metric.WithReader(reader))))
	sealed, err := e.Seal(t.Context(), meta, []byte("payload"))
	require.NoError(t, err)
	_, err = e.Open(t.Context(), meta, sealed)
	require.NoError(t, err)
	_, err = e.Open(t.Context(), meta, []byte("clear"))
	require.Error(t, err)

	require.Equal(t, map[string]int64{
		"seal job payload ok":         1,
		"open job payload ok":         1,
		"open job payload not_sealed": 1,
	}, jobCounts(t, reader))
	var data metricdata.ResourceMetrics
	require.NoError(t, reader.Collect(t.Context(), &data))
	for _, p := range data.ScopeMetrics[0].Metrics[0].Data.(metricdata.Sum[int64]).DataPoints {
		ns, _ := p.Attributes.Value("sealcache.namespace")
		require.Equal(t, "ns", ns.AsString())
		require.Equal(t, 4, p.Attributes.Len(), "and nothing else")
	}
}

// jobCounts returns the metric sealcache.jobs by operation, kind and outcome.
func jobCounts(t *testing.T, r metric.Reader) map[string]int64 {
	t.Helper()
	var data metricdata.ResourceMetrics
	require.NoError(t, r.Collect(t.Context(), &data))
	got := map[string]int64{}
	for _, m := range data.ScopeMetrics[0].Metrics {
		require.Equal(t, "sealcache.jobs", m.Name)
		for _, p := range m.Data.(metricdata.Sum[int64]).DataPoints {
			op, _ := p.Attributes.Value("sealcache.operation")
			kind, _ := p.Attributes.Value("sealcache.kind")
			out, _ := p.Attributes.Value("sealcache.outcome")
			got[op.AsString()+" "+kind.AsString()+" "+out.AsString()] = p.Value
		}
	}
	return got
}
