package reporttest_test

import (
	"context"
	"errors"
	"log/slog"
	"testing"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"github.com/sealcache/sealcache/internal/leaktest"
	"github.com/sealcache/sealcache/internal/reporttest"
)

// Each kind of report shows a canary that it holds, and no other kind does.
func TestReportsShowCanaries(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	for place, report := range map[string]func(r *reporttest.Reports, secret string){
		"log": func(r *reporttest.Reports, secret string) {
			r.Logger.Debug("x", "attributes", slog.GroupValue(slog.String("key", secret)))
		},
		"metrics": func(r *reporttest.Reports, secret string) {
			c, err := r.Meters.Meter("x").Int64Counter("c")
			require.NoError(t, err)
			c.Add(ctx, 1, metric.WithAttributes(attribute.String("key", secret)))
		},
		"spans": func(r *reporttest.Reports, secret string) {
			_, sp := r.Tracers.Tracer("x").Start(ctx, "s")
			sp.AddEvent("e", trace.WithAttributes(attribute.String("key", secret)))
			sp.End()
		},
	} {
		var secrets leaktest.Set
		r := reporttest.New()
		report(r, secrets.Text("secret"))
		for where, said := range r.Places(t) {
			require.Equal(t, where == place, len(secrets.Find(said)) == 1, "%s: %s", place, where)
		}
	}
	var secrets leaktest.Set
	r := reporttest.New()
	err := errors.New("no entry " + secrets.Text("secret"))
	require.Equal(t, err, r.Err(err))
	require.NoError(t, r.Err(nil))
	require.Equal(t, []string{"secret"}, secrets.Find(r.Places(t)["errors"]))
	require.Equal(t, []string{"secret"}, secrets.Find(r.Places(t)["log"]))
}
