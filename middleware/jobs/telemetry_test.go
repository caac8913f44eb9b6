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

	var data metricdata.ResourceMetrics
	require.NoError(t, reader.Collect(t.Context(), &data))
	got := map[string]int64{}
	for _, m := range data.ScopeMetrics[0].Metrics {
		for _, p := range m.Data.(metricdata.Sum[int64]).DataPoints {
			op, _ := p.Attributes.Value("sealcache.operation")
			kind, _ := p.Attributes.Value("sealcache.kind")
			out, _ := p.Attributes.Value("sealcache.outcome")
			ns, _ := p.Attributes.Value("sealcache.namespace")
			require.Equal(t, "ns", ns.AsString())
			require.Equal(t, 4, p.Attributes.Len(), "and nothing else")
			got[m.Name+" "+op.AsString()+" "+kind.AsString()+" "+out.AsString()] = p.Value
		}
	}
	require.Equal(t, map[string]int64{
		"sealcache.jobs seal job payload ok":         1,
		"sealcache.jobs open job payload ok":         1,
		"sealcache.jobs open job payload not_sealed": 1,
	}, got)
}
