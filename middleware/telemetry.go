package middleware

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/eko/gocache/lib/v4/store"

	"github.com/sealcache/sealcache/middleware/internal/box"
	report "github.com/sealcache/sealcache/middleware/internal/telemetry"
)

const scope = "github.com/sealcache/sealcache/middleware"

// telemetry reports the operations of a Store or Sealer. It never shows a value,
// a key name or key material.
type telemetry struct {
	log       *slog.Logger
	limit     report.Limiter // of log lines about single values
	writes    sync.Map       // outcome to report.Limiter: of log lines about refused writes
	keysLimit report.Limiter // of log lines about differing keys
	tracer    trace.Tracer   // nil: no spans
	attrs     []attribute.KeyValue

	operations *report.Counter
	duration   *report.Duration
	plaintext  *report.Counter
	refused    *report.Counter
	keyChecks  *report.Counter
	meter      *report.Meter
	batchKeys  *report.Counter
	otherKeys  *report.Counter
}

func newTelemetry(c *config, storeType string) (*telemetry, error) {
	attrs := []attribute.KeyValue{attribute.String("sealcache.namespace", c.namespace), attribute.String("sealcache.store", storeType)}
	m := c.telemetry.Meter(scope, attrs...)
	t := &telemetry{
		log:        c.telemetry.Logger().With("namespace", c.namespace, "store", storeType),
		limit:      report.NewLimiter(),
		keysLimit:  report.NewLimiterEvery(time.Minute),
		tracer:     c.telemetry.Tracer(scope),
		attrs:      attrs,
		operations: m.Counter("sealcache.operations", "Operations on sealed values, by operation and outcome.", "sealcache.operation", "sealcache.outcome"),
		duration:   m.Duration("sealcache.operation.duration", "Duration of operations, the backing store's time included.", "sealcache.operation"),
		plaintext:  m.Counter("sealcache.plaintext", "Plaintext values, by what was done with them.", "sealcache.plaintext"),
		refused:    m.Counter("sealcache.refused_writes", "Writes that failed, by reason.", "sealcache.outcome"),
		meter:      m,
		keyChecks:  m.Counter("sealcache.key_checks", "Comparisons of encryption keys with the other processes of the namespace, by outcome.", "sealcache.outcome"),
		batchKeys:  m.Counter("sealcache.batch_keys", "Cache keys in calls of GetMany, SetMany and DeleteMany, by operation and outcome.", "sealcache.operation", "sealcache.outcome"),
	}
	t.otherKeys = m.Counter("sealcache.other_key_reads", "Values that opened under an encryption key other than the primary key.", "sealcache.key_id")
	m.Total("sealcache.store.batches", "batches", "Pipelines in which the backing store combined calls of concurrent callers.")
	m.Total("sealcache.store.combined", "combined", "Calls that the backing store combined into pipelines.")
	m.Level("sealcache.store.waiting", "waiting", "Calls that wait for a pipeline of the backing store.")
	m.Total("sealcache.store.near_hits", "near_hits", "Reads that the backing store served from memory.")
	m.Total("sealcache.store.near_misses", "near_misses", "Reads that the backing store did not serve from memory.")
	m.Level("sealcache.store.near_bytes", "near_bytes", "Memory that the backing store uses to serve reads.")
	return t, m.Err()
}

// An operation is one call of an exported method, from begin to end.
type operation struct {
	t     *telemetry
	ctx   context.Context //nolint:containedctx // lives as long as the call that it reports
	name  string
	start time.Time
	span  trace.Span
}

// quiet reports whether only failures are reported, which is the default. Get
// and Set then skip begin and end, which cost a tenth of an operation on 64
// bytes.
func (t *telemetry) quiet() bool { return t.tracer == nil && t.operations == nil }

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

func (o *operation) end(err error) {
	if o.t.quiet() {
		return
	}
	result := outcome(err)
	o.t.operations.Add(o.ctx, 1, o.name, result)
	o.t.duration.Since(o.ctx, o.start, o.name)
	if o.span != nil {
		o.span.SetAttributes(attribute.String("sealcache.outcome", result))
		if err != nil && result != "miss" {
			o.span.SetStatus(codes.Error, result)
		}
		o.span.End()
	}
}

// unreadableValue logs that a stored value could not be read.
func (t *telemetry) unreadableValue(ctx context.Context, name string, err error) {
	if err != nil && unreadable(err) && t.limit.Allow() {
		t.log.WarnContext(ctx, "sealcache: a stored value was refused", "operation", name, "reason", outcome(err))
	}
}

// refusedWrite logs and counts a write that failed. gocache's Loadable drops the
// errors of Set, so that nothing else shows why a value is never cached.
func (t *telemetry) refusedWrite(ctx context.Context, name string, err error) {
	if err == nil {
		return
	}
	reason := outcome(err)
	t.refused.Add(ctx, 1, reason)
	limit, ok := t.writes.Load(reason)
	if !ok {
		limit, _ = t.writes.LoadOrStore(reason, report.NewLimiter())
	}
	if reason == "canceled" || !limit.(report.Limiter).Allow() { //nolint:forcetypeassert // only this method stores
		return
	}
	attrs := []any{"operation", name, "reason", reason}
	var typed *typeError
	if errors.As(err, &typed) {
		attrs = append(attrs, "type", typed.name)
	}
	t.log.WarnContext(ctx, "sealcache: a write failed", attrs...)
}

// plaintextValue counts plaintext values by action: read, written, resealed,
// reseal_failed, changed.
func (t *telemetry) plaintextValue(ctx context.Context, what string) { t.plaintext.Add(ctx, 1, what) }

// outcome names the result of an operation for metrics and logs.
func outcome(err error) string {
	var batch *BatchError
	switch {
	case err == nil:
		return "ok"
	case errors.As(err, &batch):
		return batch.outcome()
	case isCallersError(err):
		return "caller"
	case box.Outcome(err) != "":
		return box.Outcome(err)
	case errors.Is(err, ErrUnsupportedType):
		return "unsupported_type"
	case errors.Is(err, errDecode), errors.Is(err, errEncode):
		return "codec"
	case errors.Is(err, ErrNotANumber):
		return "not_a_number"
	case errors.Is(err, ErrOverflow):
		return "overflow"
	case errors.Is(err, ErrConflict):
		return "conflict"
	case errors.Is(err, errExpiration):
		return "expiration"
	case errors.Is(err, store.ErrNotSupported):
		return "unsupported"
	case errors.Is(err, errExpired):
		return "expired"
	case isMiss(err):
		return "miss"
	default:
		return "store_error"
	}
}
