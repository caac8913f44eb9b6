package jobs

import (
	"context"
	"log/slog"

	"go.opentelemetry.io/otel/attribute"

	report "github.com/sealcache/sealcache/middleware/internal/telemetry"
)

const scope = "github.com/sealcache/sealcache/middleware/jobs"

// telemetry reports the operations of an Encryptor. It never shows a payload, a
// name or key material.
type telemetry struct {
	log       *slog.Logger
	limit     report.Limiter
	values    *report.Counter
	otherKeys *report.Counter
}

func newTelemetry(c *config) (*telemetry, error) {
	m := c.telemetry.Meter(scope, attribute.String("sealcache.namespace", c.namespace))
	return &telemetry{
		log:   c.telemetry.Logger().With("namespace", c.namespace),
		limit: report.NewLimiter(),
		values: m.Counter("sealcache.jobs", "Values of jobs, by operation (seal, open), kind and outcome.",
			"sealcache.operation", "sealcache.kind", "sealcache.outcome"),
		otherKeys: m.Counter("sealcache.jobs.other_key_reads", "Values of jobs that opened under a key other than the primary key.", "sealcache.key_id"),
	}, m.Err()
}

// count counts one value, and logs it if it did not open.
func (t *telemetry) count(ctx context.Context, operation string, k Kind, err error) {
	result := outcome(err)
	t.values.Add(ctx, 1, operation, k.String(), result)
	if err != nil && operation == "open" && result != "canceled" && t.limit.Allow() {
		t.log.WarnContext(ctx, "sealcache: a value of a job cannot be opened", "kind", k.String(), "reason", result)
	}
}

func (t *telemetry) reloadFailed(ctx context.Context, err error) {
	if t.limit.Allow() {
		t.log.WarnContext(ctx, "sealcache: the keyset could not be reloaded, so values under newly added keys do not open", "error", err)
	}
}
