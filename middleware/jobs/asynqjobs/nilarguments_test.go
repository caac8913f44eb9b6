package asynqjobs_test

import (
	"testing"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"github.com/tink-crypto/tink-go/v2/prf"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/middleware/jobs"
	"github.com/sealcache/sealcache/middleware/jobs/asynqjobs"
	"github.com/sealcache/sealcache/middleware/jobs/asynqjobs/monitor"
)

// pointer types that implement an interface of asynq.
type (
	nilConn       struct{ asynq.RedisClientOpt }
	nilErrors     struct{ asynq.ErrorHandler }
	nilAggregator struct{ asynq.GroupAggregator }
	nilLogger     struct{ asynq.Logger }
	nilOption     struct{ asynq.Option }
	nilKey        struct{ prf.PRF }
	nilCodec      struct{ asynqjobs.Codec[int] }
)

// madeNil makes no client.
type madeNil struct{}

func (madeNil) MakeRedisClient() any { return (*redis.Client)(nil) }

// A nil pointer in an interface is refused where it is given, and not when it is used.
func TestNilArguments(t *testing.T) {
	t.Parallel()
	e := newEncryptor(t, nil)
	rdb := redis.NewClient(&redis.Options{Addr: "127.0.0.1:1", MaxRetries: -1})
	t.Cleanup(func() { _ = rdb.Close() })
	c := asynq.NewClientFromRedisClient(rdb)
	client, err := asynqjobs.NewClient(c, e, asynqjobs.WithLogger(quiet))
	require.NoError(t, err)
	newClient := func(opts ...asynqjobs.Option) error {
		_, err := asynqjobs.NewClient(c, e, opts...)
		return err
	}
	config := func(cfg asynq.Config) error {
		_, err := asynqjobs.Config(e, cfg, asynqjobs.WithGroupClient(c))
		return err
	}
	handler := func(h asynq.Handler, opts ...asynqjobs.Option) error {
		_, err := asynqjobs.Handler(e, h, opts...)
		return err
	}
	newMonitor := func(conn asynq.RedisConnOpt, e *jobs.Encryptor, opts ...monitor.Option) error {
		_, err := monitor.New(conn, e, opts...)
		return err
	}
	delay := func(j *asynqjobs.Job[int]) error {
		_, err := j.Delay(t.Context(), client, 1)
		return err
	}
	write := func(r *asynqjobs.Result[int]) error { return r.Write(t.Context(), 1) }
	set := newPRF(t)
	set.PRFs[set.PrimaryID+1] = (*nilKey)(nil)
	encryptor := func(opts ...jobs.Option) error {
		_, err := jobs.NewEncryptor(newKeyring(t), opts...)
		return err
	}
	ring := redis.NewRing(&redis.RingOptions{Addrs: map[string]string{"a": "127.0.0.1:1"}})
	t.Cleanup(func() { _ = ring.Close() })
	for name, c := range map[string]struct {
		err  error
		want string
	}{
		"NewClient":                {func() error { _, err := asynqjobs.NewClient(nil, e); return err }(), "NewClient: the asynq client is nil"},
		"NewClient, encryptor":     {func() error { _, err := asynqjobs.NewClient(c, nil); return err }(), "NewClient: the encryptor is nil"},
		"WithPipeline, ring":       {newClient(asynqjobs.WithPipeline(ring)), "WithPipeline: *redis.Ring is not supported"},
		"NewScheduler, ring":       {func() error { _, err := asynqjobs.NewScheduler(ring, client); return err }(), "NewScheduler: *redis.Ring is not supported"},
		"WithPipeline":             {newClient(asynqjobs.WithPipeline((*redis.Client)(nil))), "WithPipeline: the Redis client is nil"},
		"WithPipeline, nil":        {newClient(asynqjobs.WithPipeline(nil)), "WithPipeline: the Redis client is nil"},
		"WithGroupClient":          {newClient(asynqjobs.WithGroupClient(nil)), "WithGroupClient: the asynq client is nil"},
		"WithQueueCheck":           {newClient(asynqjobs.WithQueueCheck(nil)), "WithQueueCheck: the asynq inspector is nil"},
		"WithLogger":               {newClient(asynqjobs.WithLogger(nil)), "logger is nil"},
		"WithMeterProvider":        {newClient(asynqjobs.WithMeterProvider((*sdkmetric.MeterProvider)(nil))), "MeterProvider is nil"},
		"WithTracerProvider":       {newClient(asynqjobs.WithTracerProvider((*sdktrace.TracerProvider)(nil))), "TracerProvider is nil"},
		"an option":                {newClient(nil), "option 1 of 1 is nil"},
		"NewScheduler":             {func() error { _, err := asynqjobs.NewScheduler((*redis.Client)(nil), client); return err }(), "NewScheduler: the Redis client is nil"},
		"NewScheduler, cluster":    {func() error { _, err := asynqjobs.NewScheduler((*redis.ClusterClient)(nil), client); return err }(), "NewScheduler: the Redis client is nil"},
		"NewScheduler, client":     {func() error { _, err := asynqjobs.NewScheduler(rdb, nil); return err }(), "NewScheduler: the asynqjobs.Client is nil"},
		"Handler":                  {handler(nil), "Handler: the handler is nil"},
		"Handler, mux":             {handler((*asynq.ServeMux)(nil)), "Handler: the handler is nil"},
		"Handler, function":        {handler(asynq.HandlerFunc(nil)), "Handler: the handler is nil"},
		"Config, ErrorHandler":     {config(asynq.Config{ErrorHandler: (*nilErrors)(nil)}), "Config: the ErrorHandler is a nil *asynqjobs_test.nilErrors"},
		"Config, ErrorHandlerFunc": {config(asynq.Config{ErrorHandler: asynq.ErrorHandlerFunc(nil)}), "Config: the ErrorHandler is a nil asynq.ErrorHandlerFunc"},
		"Config, GroupAggregator":  {config(asynq.Config{GroupAggregator: (*nilAggregator)(nil)}), "Config: the GroupAggregator is a nil *asynqjobs_test.nilAggregator"},
		"Config, Logger":           {config(asynq.Config{Logger: (*nilLogger)(nil)}), "Config: the Logger is a nil *asynqjobs_test.nilLogger"},
		"a task option":            {func() error { _, err := client.Enqueue(asynq.NewTask("t", nil), (*nilOption)(nil)); return err }(), "the task option *asynqjobs_test.nilOption is unknown"},
		"monitor.New":              {newMonitor((*nilConn)(nil), e), "monitor: New: the Redis connection is nil"},
		"monitor.New, nil":         {newMonitor(nil, e), "monitor: New: the Redis connection is nil"},
		"monitor.New, no client":   {newMonitor(madeNil{}, e), "monitor: New: the asynq.RedisConnOpt asynqjobs_test.madeNil makes no redis.UniversalClient"},
		"monitor.New, encryptor":   {newMonitor(asynq.RedisClientOpt{}, nil), "monitor: New: the encryptor is nil"},
		"monitor.WithAuthorizer":   {newMonitor(asynq.RedisClientOpt{}, e, monitor.WithAuthorizer(nil)), "WithAuthorizer: the function is nil"},
		"DefineWith":               {delay(asynqjobs.DefineWith[int]("t", (*nilCodec)(nil))), "asynqjobs: the codec failed: the codec is a nil pointer"},
		"DefineResult":             {write(asynqjobs.DefineResult[int]((*nilCodec)(nil))), "the codec is a nil pointer"},
		"NewEncryptor":             {func() error { _, err := jobs.NewEncryptor((*aead.Keyring)(nil)); return err }(), "the AEAD is nil"},
		"WithPRF":                  {encryptor(jobs.WithPRF(nil)), "WithPRF: the set of PRF keys is nil"},
		"WithPRF, primary key":     {encryptor(jobs.WithPRF(&prf.Set{PRFs: map[uint32]prf.PRF{0: (*nilKey)(nil)}})), "WithPRF: the set of PRF keys lacks its primary key"},
		"WithPRF, other key":       {encryptor(jobs.WithPRF(set)), "WithPRF: the PRF key"},
		"jobs.WithMeterProvider":   {encryptor(jobs.WithMeterProvider((*sdkmetric.MeterProvider)(nil))), "MeterProvider is nil"},
		"jobs.WithReload":          {encryptor(jobs.WithReload(nil)), "nil"},
	} {
		require.ErrorContains(t, c.err, c.want, name)
	}
}
