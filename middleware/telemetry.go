package middleware

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"
	"golang.org/x/time/rate"
)

const scope = "github.com/sealcache/sealcache/middleware"

// telemetry reports what a store does. Nothing that it writes holds a value, a
// key name or key material.
type telemetry struct {
	log    *slog.Logger
	limit  *rate.Limiter // of log lines about single values
	tracer trace.Tracer  // nil: no spans

	operations metric.Int64Counter // nil: no metrics
	duration   metric.Float64Histogram
	plaintext  metric.Int64Counter
	attrs      []attribute.KeyValue
	sets       sync.Map // of the attribute options made so far: a bounded number
}

func newTelemetry(c *config, storeType string) (*telemetry, error) {
	t := &telemetry{
		log:   c.logger.With("namespace", c.namespace, "store", storeType),
		limit: rate.NewLimiter(rate.Every(time.Second), 10),
		attrs: []attribute.KeyValue{attribute.String("sealcache.namespace", c.namespace), attribute.String("sealcache.store", storeType)},
	}
	if c.tracers != nil {
		t.tracer = c.tracers.Tracer(scope)
	}
	if c.meters == nil {
		return t, nil
	}
	m := c.meters.Meter(scope)
	var err error
	if t.operations, err = m.Int64Counter("sealcache.operations", metric.WithDescription("Operations on sealed stores, by operation and outcome.")); err != nil {
		return nil, fmt.Errorf("metrics: %w", err)
	}
	if t.duration, err = m.Float64Histogram("sealcache.operation.duration", metric.WithUnit("s"),
		metric.WithDescription("Duration of operations on sealed stores, the backing store's time included."),
		metric.WithExplicitBucketBoundaries(0.00001, 0.00003, 0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3)); err != nil {
		return nil, fmt.Errorf("metrics: %w", err)
	}
	if t.plaintext, err = m.Int64Counter("sealcache.plaintext", metric.WithDescription("Values in clear, by what was done with them.")); err != nil {
		return nil, fmt.Errorf("metrics: %w", err)
	}
	return t, nil
}

// An operation is one call of a Store's method, from begin to end. Its zero
// value reports nothing.
type operation struct {
	t     *telemetry
	ctx   context.Context //nolint:containedctx // lives as long as the call that it reports
	name  string
	start time.Time
	span  trace.Span
}

// quiet tells whether only failures are reported, which is the default. The two
// hot operations then skip begin and end: at 64 bytes these cost a tenth of the
// whole.
func (t *telemetry) quiet() bool { return t.tracer == nil && t.operations == nil }

// begin starts to report an operation.
func (t *telemetry) begin(ctx context.Context, name string) (context.Context, operation) {
	o := operation{t: t, name: name}
	if t.tracer != nil {
		ctx, o.span = t.tracer.Start(ctx, "sealcache."+name, trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(t.attrs...))
	}
	if t.operations != nil {
		o.start = time.Now()
	}
	o.ctx = ctx
	return ctx, o
}

// end reports the operation's result.
func (o *operation) end(err error) {
	t := o.t
	if t.quiet() {
		t.refused(o.ctx, o.name, err)
		return
	}
	result := outcome(err)
	if t.operations != nil {
		t.operations.Add(o.ctx, 1, t.set("sealcache.operation", o.name, "sealcache.outcome", result))
		t.duration.Record(o.ctx, time.Since(o.start).Seconds(), t.set("sealcache.operation", o.name, "", ""))
	}
	if o.span != nil {
		o.span.SetAttributes(attribute.String("sealcache.outcome", result))
		if err != nil && result != "miss" {
			o.span.SetStatus(codes.Error, result)
		}
		o.span.End()
	}
	t.refused(o.ctx, o.name, err)
}

// refused logs that a stored value could not be read.
func (t *telemetry) refused(ctx context.Context, name string, err error) {
	if err != nil && unreadable(err) && t.mayLog() {
		t.log.WarnContext(ctx, "sealcache: value refused", "operation", name, "reason", outcome(err))
	}
}

// clear counts clear values: read, written, resealed, reseal_failed.
func (t *telemetry) clear(ctx context.Context, what string) {
	if t.plaintext != nil {
		t.plaintext.Add(ctx, 1, t.set("sealcache.plaintext", what, "", ""))
	}
}

// mayLog tells whether a line about one value may be written: at most ten at
// once and one a second, so that planted values do not fill a disk.
func (t *telemetry) mayLog() bool { return t.limit.Allow() }

// set returns the attributes of a measurement, made once for each combination.
func (t *telemetry) set(k1, v1, k2, v2 string) metric.MeasurementOption {
	id := [2]string{v1, v2}
	if o, ok := t.sets.Load(id); ok {
		return o.(metric.MeasurementOption) //nolint:forcetypeassert // only this method stores
	}
	kv := append([]attribute.KeyValue{attribute.String(k1, v1)}, t.attrs...)
	if k2 != "" {
		kv = append(kv, attribute.String(k2, v2))
	}
	o := metric.WithAttributeSet(attribute.NewSet(kv...))
	t.sets.Store(id, o)
	return o
}
