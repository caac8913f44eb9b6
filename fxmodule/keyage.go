package fxmodule

import (
	"context"
	"fmt"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/internal/errtext"
	"github.com/sealcache/sealcache/internal/nilcheck"
)

// meterName is the instrumentation scope of the instruments of this package.
const meterName = "github.com/sealcache/sealcache/fxmodule"

// unregister is an io.Closer that ends a callback.
type unregister struct{ metric.Registration }

func (u unregister) Close() error { return u.Unregister() }

// measureAges reports the age of each key whose times are known. A nil provider is none.
func (k *Keys) measureAges(meters metric.MeterProvider) error {
	if nilcheck.IsNil(meters) || len(k.all) == 0 {
		return nil
	}
	meter := meters.Meter(meterName)
	gauge, err := meter.Float64ObservableGauge("sealcache.key.age", metric.WithUnit("s"), metric.WithDescription("Age of the keys of keysets."))
	if err != nil {
		return fmt.Errorf("fxmodule: the MeterProvider refused the metric sealcache.key.age (check the Views of the MeterProvider): %w", errtext.Guard(err))
	}
	rings := k.all
	registration, err := meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		now := time.Now()
		for _, ring := range rings {
			observeAges(o, gauge, ring.Keys(), now)
		}
		return nil
	}, gauge)
	if err != nil {
		return fmt.Errorf("fxmodule: the MeterProvider refused the callback of the metric sealcache.key.age (use OpenTelemetry's SDK): %w", errtext.Guard(err))
	}
	k.closers = append(k.closers, unregister{registration})
	return nil
}

func observeAges(o metric.Observer, gauge metric.Float64Observable, keys []aead.KeyInfo, now time.Time) {
	for _, key := range keys {
		if age, known := key.Age(now); known {
			o.ObserveFloat64(gauge, age.Seconds(), metric.WithAttributes(
				attribute.Int64("sealcache.key_id", int64(key.ID)), attribute.Bool("sealcache.primary", key.Primary)))
		}
	}
}
