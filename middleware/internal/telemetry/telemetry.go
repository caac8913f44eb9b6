// Package telemetry has the options for loggers, metrics and traces that several packages share. It also has counters, and
// a limit for the rate of log lines.
//
// A package that uses telemetry keeps a [Config] in its own configuration. Each option of that package for logs, metrics or
// traces calls one method of Config:
//
//	func WithLogger(l *slog.Logger) Option { return func(c *config) error { return c.telemetry.SetLogger(l) } }
//
// Callers must not pass cached values, cache keys or encryption keys to this package. These would appear in logs and
// traces.
package telemetry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"
	"golang.org/x/time/rate"

	"github.com/sealcache/sealcache/internal/errtext"
	"github.com/sealcache/sealcache/internal/nilcheck"
)

// Config holds the logger and the providers of a package. Its zero value logs to slog.Default() and measures nothing.
type Config struct {
	logger  *slog.Logger
	meters  metric.MeterProvider
	tracers trace.TracerProvider
}

// SetLogger implements the option WithLogger.
func (c *Config) SetLogger(l *slog.Logger) error {
	if l == nil {
		return errors.New("WithLogger: the logger is nil")
	}
	c.logger = l
	return nil
}

// SetMeterProvider implements the option WithMeterProvider.
func (c *Config) SetMeterProvider(p metric.MeterProvider) error {
	if nilcheck.IsNil(p) {
		return errors.New("WithMeterProvider: the MeterProvider is nil")
	}
	c.meters = p
	return nil
}

// SetTracerProvider implements the option WithTracerProvider.
func (c *Config) SetTracerProvider(p trace.TracerProvider) error {
	if nilcheck.IsNil(p) {
		return errors.New("WithTracerProvider: the TracerProvider is nil")
	}
	c.tracers = p
	return nil
}

// Logger returns the logger of WithLogger, or slog.Default().
func (c *Config) Logger() *slog.Logger {
	if c.logger == nil {
		return slog.Default()
	}
	return c.logger
}

// Tracer returns a tracer, or nil without WithTracerProvider.
func (c *Config) Tracer(scope string) trace.Tracer {
	if c.tracers == nil {
		return nil
	}
	return c.tracers.Tracer(scope)
}

// Meter returns a Meter. Each of its measurements carries attrs.
func (c *Config) Meter(scope string, attrs ...attribute.KeyValue) *Meter {
	m := &Meter{attrs: attrs}
	if c.meters != nil {
		m.meter = c.meters.Meter(scope)
	}
	return m
}

// A Meter makes the instruments of one package. Their errors are collected in Err.
type Meter struct {
	meter metric.Meter // nil: nothing is measured
	attrs []attribute.KeyValue
	err   error // of the first instrument that failed

	watched []watched
}

// Err returns the first error of the instruments that were made.
func (m *Meter) Err() error { return m.err }

// note keeps the error of the first instrument that failed. A View that does not fit fails many, for the same reason.
func (m *Meter) note(name string, err error) {
	if m.err == nil && err != nil {
		m.err = fmt.Errorf("the MeterProvider refused the metric %s (check the Views of the MeterProvider): %w", name, errtext.Guard(err))
	}
}

// Counter returns a counter whose measurements carry the attributes keys, at most three. Without a meter provider it is
// nil, and a nil Counter counts nothing.
func (m *Meter) Counter(name, description string, keys ...string) *Counter {
	if m.meter == nil {
		return nil
	}
	c, err := m.meter.Int64Counter(name, metric.WithDescription(description))
	m.note(name, err)
	return &Counter{counter: c, labels: labels{attrs: m.attrs, keys: keys}}
}

// Duration returns a histogram of seconds, under the rules of Counter.
func (m *Meter) Duration(name, description string, keys ...string) *Duration {
	if m.meter == nil {
		return nil
	}
	h, err := m.meter.Float64Histogram(name, metric.WithUnit("s"), metric.WithDescription(description),
		metric.WithExplicitBucketBoundaries(0.00001, 0.00003, 0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3))
	m.note(name, err)
	return &Duration{histogram: h, labels: labels{attrs: m.attrs, keys: keys}}
}

// A Counter counts events.
type Counter struct {
	counter metric.Int64Counter
	labels  labels
}

// Add counts n events with one value for each attribute. An empty value leaves its attribute out.
func (c *Counter) Add(ctx context.Context, n int64, values ...string) {
	if c != nil {
		c.counter.Add(ctx, n, c.labels.of(values))
	}
}

// A Duration measures times.
type Duration struct {
	histogram metric.Float64Histogram
	labels    labels
}

// Since records the time since start, with values as in Counter.Add.
func (d *Duration) Since(ctx context.Context, start time.Time, values ...string) {
	if d != nil {
		d.histogram.Record(ctx, time.Since(start).Seconds(), d.labels.of(values))
	}
}

// labels makes the attributes of a measurement once for each combination of values, of which callers have few.
type labels struct {
	attrs []attribute.KeyValue
	keys  []string
	sets  sync.Map // [3]string to metric.MeasurementOption
}

func (l *labels) of(values []string) metric.MeasurementOption {
	var id [3]string
	copy(id[:], values)
	if o, ok := l.sets.Load(id); ok {
		return o.(metric.MeasurementOption) //nolint:forcetypeassert // only this method stores
	}
	var kv []attribute.KeyValue
	for i, v := range values {
		if v != "" {
			kv = append(kv, attribute.String(l.keys[i], v))
		}
	}
	o := metric.WithAttributeSet(attribute.NewSet(append(kv, l.attrs...)...))
	l.sets.Store(id, o)
	return o
}

// A Limiter bounds log lines about single values to ten at once and one each second, so that planted values cannot fill
// a disk.
type Limiter struct{ limit *rate.Limiter }

// NewLimiter returns a Limiter.
func NewLimiter() Limiter { return Limiter{rate.NewLimiter(rate.Every(time.Second), 10)} }

// NewLimiterEvery returns a Limiter that allows one line in each interval, for a state that each check finds again.
func NewLimiterEvery(interval time.Duration) Limiter {
	return Limiter{rate.NewLimiter(rate.Every(interval), 1)}
}

// Allow reports whether a line may be written now.
func (l Limiter) Allow() bool { return l.limit.Allow() }
