// Package reporttest collects the logs, metrics, traces and errors of the code under test, so that a test can search
// them for secrets. Begin with [New].
package reporttest

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"testing"

	"github.com/sealcache/sealcache/internal/sealtest"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
)

// Reports collects the output of a program for its operator: error texts, log lines, metrics and spans. It is
// safe for concurrent use.
type Reports struct {
	Logger  *slog.Logger
	Meters  *sdkmetric.MeterProvider
	Tracers *sdktrace.TracerProvider

	log, errs sealtest.Logs
	reader    *sdkmetric.ManualReader
	spans     *tracetest.SpanRecorder
}

// New returns Reports that hold nothing yet. The logger takes every level.
func New() *Reports {
	r := &Reports{reader: sdkmetric.NewManualReader(), spans: tracetest.NewSpanRecorder()}
	r.Meters = sdkmetric.NewMeterProvider(sdkmetric.WithReader(r.reader))
	r.Tracers = sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(r.spans))
	r.Logger = slog.New(slog.NewJSONHandler(&r.log, &slog.HandlerOptions{Level: slog.LevelDebug, AddSource: true}))
	return r
}

// Err records an error as an application would print or log it, and returns it.
func (r *Reports) Err(err error) error {
	if err != nil {
		_, _ = fmt.Fprintf(&r.errs, "%v\n%+v\n%q\n", err, err, err)
		r.Logger.Error("reporttest: a sample error of the application", "error", err)
	}
	return err
}

// Places returns the reports by their place: "errors", "log", "metrics" and "spans".
func (r *Reports) Places(t testing.TB) map[string][]byte {
	t.Helper()
	var data metricdata.ResourceMetrics
	if err := r.reader.Collect(context.Background(), &data); err != nil {
		t.Fatalf("reporttest: cannot collect the metrics: %v", err)
	}
	metrics, err := json.Marshal(data)
	if err != nil {
		t.Fatalf("reporttest: cannot collect the metrics: %v", err)
	}
	var spans []byte
	for _, sp := range r.spans.Ended() {
		spans = fmt.Appendf(spans, "%s %v %v %v %v %v\n", sp.Name(), sp.Attributes(), sp.Events(), sp.Links(), sp.Status(), sp.Resource())
	}
	return map[string][]byte{"errors": []byte(r.errs.String()), "log": []byte(r.log.String()), "metrics": metrics, "spans": spans}
}
