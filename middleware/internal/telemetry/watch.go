package telemetry

import (
	"context"
	"fmt"

	"go.opentelemetry.io/otel/metric"

	"github.com/sealcache/sealcache/internal/errtext"
)

// watched is an instrument that is read when metrics are collected.
type watched struct {
	count      string // its name in what is read
	instrument metric.Int64Observable
}

// Total declares a counter that Watch reads under the name count.
func (m *Meter) Total(name, count, description string) {
	if m.meter == nil {
		return
	}
	o, err := m.meter.Int64ObservableCounter(name, metric.WithDescription(description))
	m.note(name, err)
	m.watched = append(m.watched, watched{count, o})
}

// Level is Total for a number that can also decrease.
func (m *Meter) Level(name, count, description string) {
	if m.meter == nil {
		return
	}
	o, err := m.meter.Int64ObservableGauge(name, metric.WithDescription(description))
	m.note(name, err)
	m.watched = append(m.watched, watched{count, o})
}

// Watch reports the declared instruments with the counts that read returns, until stop is called. A count that read does
// not return is not reported. Without a meter provider it does nothing.
func (m *Meter) Watch(read func() map[string]int64) (stop func() error, err error) {
	if m.meter == nil || len(m.watched) == 0 {
		return func() error { return nil }, nil
	}
	var instruments []metric.Observable
	for _, w := range m.watched {
		instruments = append(instruments, w.instrument)
	}
	attrs := metric.WithAttributes(m.attrs...)
	registration, err := m.meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		counts := read()
		for _, w := range m.watched {
			if n, ok := counts[w.count]; ok {
				o.ObserveInt64(w.instrument, n, attrs)
			}
		}
		return nil
	}, instruments...)
	if err != nil {
		return nil, fmt.Errorf("the MeterProvider refused the callback of the metrics (use that of OpenTelemetry's SDK): %w", errtext.Guard(err))
	}
	return registration.Unregister, nil
}
