package fxmodule

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
	"go.uber.org/fx"

	"github.com/sealcache/sealcache/middleware/jobs"
	"github.com/sealcache/sealcache/middleware/jobs/asynqjobs"
	"github.com/sealcache/sealcache/stores/redisstore"
)

// queue is the Redis of the jobs: one client, for everything that Module makes of it. It is made when something is taken
// that needs it.
type queue struct {
	client redis.UniversalClient

	mu     sync.Mutex
	closed bool
	inUse  <-chan struct{} // until it is closed the client is used by what could not be stopped; nil: by nothing
}

// closeAfter has close leave the client open until done is closed.
func (q *queue) closeAfter(done <-chan struct{}) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.inUse = done
}

// close closes the client. A second call does nothing.
func (q *queue) close() error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return nil
	}
	q.closed = true
	if q.inUse != nil {
		go func() {
			<-q.inUse
			_ = q.client.Close() // the application has been told already that it did not stop in time
		}()
		return nil
	}
	if err := q.client.Close(); !errors.Is(err, redis.ErrClosed) {
		return err
	}
	return nil
}

type queueInputs struct {
	fx.In

	Graph *graph             // first, so that the jobs' Redis is closed before the keys
	Conn  asynq.RedisConnOpt `optional:"true"`
}

var (
	errNoRedis  = errors.New("the application takes what needs a Redis for jobs, and there is none: set jobs.redis to its URL, or fx.Provide an asynq.RedisConnOpt (as that interface; one with a name, in a group, or whose own needs fx cannot meet does not count)")
	errTwoRedis = errors.New("jobs.redis is set, and the application provides an asynq.RedisConnOpt too: drop the one or the other")
)

// newQueue makes the client, without connecting. It is called once, if at all.
func newQueue(in queueInputs) (*queue, error) {
	s := in.Graph.system
	client, err := s.openQueue(in.Conn) // asks in.Conn for its one client
	if err != nil {
		return nil, in.Graph.failed(&JobsError{PartStore, unquote(err, "")})
	}
	q := &queue{client: client}
	s.queue = q
	s.opened = append(s.opened, closer(q.close)) // for a failure before the hook below has its turn
	s.warnAboutQueue()
	s.keepQueues(in.Conn, client)
	s.in.Lifecycle.Append(fx.Hook{
		OnStart: func(ctx context.Context) error {
			if err := q.failure(ctx); err != nil {
				return errors.Join(err, q.close()) // fx stops only what has started
			}
			return nil
		},
		OnStop: func(context.Context) error { return q.close() },
	})
	return q, nil
}

func (s *system) openQueue(conn asynq.RedisConnOpt) (redis.UniversalClient, error) {
	if isNil(conn) {
		conn = nil
	}
	switch url := s.in.Config.Jobs.Redis; {
	case url != "" && conn != nil:
		return nil, errTwoRedis
	case url != "":
		ctx, cancel := s.openContext()
		defer cancel()
		return redisstore.OpenClient(ctx, url)
	case conn == nil:
		return nil, errNoRedis
	}
	client, ok := conn.MakeRedisClient().(redis.UniversalClient)
	if !ok || isNil(client) {
		return nil, fmt.Errorf("the application's asynq.RedisConnOpt of type %T makes no redis.UniversalClient", conn)
	}
	return client, nil
}

// failure asks whether Redis answers, for no longer than a readiness request takes. The clients that asynq makes go by
// no deadline of a context.
func (q *queue) failure(ctx context.Context) *JobsError {
	ctx, cancel := context.WithTimeout(ctx, healthTimeout)
	defer cancel()
	answer := make(chan error, 1)
	go func() { answer <- q.client.Ping(ctx).Err() }()
	var err error
	select {
	case err = <-answer:
	case <-ctx.Done():
		err = ctx.Err()
	}
	if err != nil {
		return &JobsError{PartStore, fmt.Errorf("their Redis does not answer; see that it runs, and that jobs.redis or the application's asynq.RedisConnOpt leads to it: %w", unquote(err, ""))}
	}
	return nil
}

// warnAboutQueue warns of what in the application could harm the queues, or pass by the sealing.
func (s *system) warnAboutQueue() {
	for _, producer := range []string{"*asynq.Client", "*asynq.Scheduler", "*asynq.PeriodicTaskManager"} {
		if provided(s.in.Graph, producer) {
			s.log.Warn("sealcache: the application provides what enqueues tasks in clear: take *asynqjobs.Client and *asynqjobs.Scheduler instead", "type", producer)
		}
	}
	if s.in.Config.Jobs.PRFKeyset == "" {
		s.log.Info("sealcache: jobs have no prf_keyset, so that unique tasks are refused")
	}
}

// mayMeetQueues tells whether a cache may be found to be in the Redis of the jobs later than when it is made: where the
// application provides that Redis, or the store.
func (s *system) mayMeetQueues() bool {
	return s.in.Config.Jobs.Redis != "" || provided(s.in.Graph, "asynq.RedisConnOpt")
}

// keepQueues has caches without a namespace refuse Clear where that would remove the queues: for our own stores, which it
// reaches, and it warns of others. Where a Redis cannot be told from another it is taken for the same.
func (s *system) keepQueues(conn asynq.RedisConnOpt, client redis.UniversalClient) {
	places := placesOf(s.in.Config.Jobs.Redis)
	if s.in.Config.Jobs.Redis == "" {
		places = connPlaces(conn, client)
	}
	neighbours := cachesAt(places, s.in.Config.Caches)
	for _, name := range s.caches.names {
		c, backing := s.in.Config.Caches[name], s.backing[name]
		_, reached := backing.(*redisstore.Store)
		switch {
		case c.Namespace != "":
		case slices.Contains(neighbours, name):
			s.shared[name].Store(true)
			s.log.Warn("sealcache: a cache without a namespace is in the Redis of the jobs, whose queues its Clear would remove, so that it is refused: give it a namespace, or a database of its own", "cache", name)
		case reached && (places == nil || c.Store == ""):
			s.shared[name].Store(true)
			s.log.Warn("sealcache: a cache without a namespace may be in the Redis of the jobs, which cannot be told from here, and whose queues its Clear would then remove, so that it is refused: give it a namespace", "cache", name)
		case c.Store == "" && onRedis(backing.GetType()):
			s.log.Warn("sealcache: a cache without a namespace stands on a Redis store of the application, whose Clear may remove the queues of jobs (that of gocache's own stores empties every database of a server): give it a namespace, or a server of its own", "cache", name)
		}
	}
}

// onRedis tells gocache's stores on Redis by the type that they give to dashboards.
func onRedis(storeType string) bool {
	return strings.Contains(storeType, "redis") || strings.Contains(storeType, "rueidis") || strings.Contains(storeType, "valkey")
}

// connPlaces are the places of the application's connection as placesOf names them, or nil if it does not tell.
func connPlaces(conn asynq.RedisConnOpt, client redis.UniversalClient) []string {
	switch c := conn.(type) {
	case asynq.RedisFailoverClientOpt:
		return sentinelPlaces(c)
	case *asynq.RedisFailoverClientOpt:
		return sentinelPlaces(*c)
	}
	var addrs []string
	database := 0
	switch c := client.(type) {
	case *redis.Client:
		o := c.Options()
		if o.Network == "unix" {
			return []string{"socket " + o.Addr + " " + strconv.Itoa(o.DB)}
		}
		if o.Addr == failover { // it says which only to itself
			return nil
		}
		addrs, database = []string{o.Addr}, o.DB
	case *redis.ClusterClient:
		addrs = c.Options().Addrs
	}
	var found []string
	for _, a := range addrs {
		found = append(found, fmt.Sprintf("%s %d ", address(a, "6379"), database))
	}
	return found
}

// failover is what go-redis gives for the address of a client that asks sentinels.
const failover = "FailoverClient"

func sentinelPlaces(o asynq.RedisFailoverClientOpt) []string {
	var found []string
	for _, a := range o.SentinelAddrs {
		found = append(found, fmt.Sprintf("%s %d %s", address(a, "26379"), o.DB, o.MasterName))
	}
	return found
}

// asynqOptions are the options that the client, the handler and the server have in common.
func (s *system) asynqOptions() []asynqjobs.Option {
	opts := []asynqjobs.Option{asynqjobs.WithLogger(s.log)}
	if s.in.Config.Jobs.HiddenTypes {
		opts = append(opts, asynqjobs.WithHiddenTypes())
	}
	if until := s.in.Config.Jobs.ClearUntil; !until.IsZero() {
		opts = append(opts, asynqjobs.WithClearUntil(until))
	}
	if !isNil(s.in.Meters) {
		opts = append(opts, asynqjobs.WithMeterProvider(s.in.Meters))
	}
	return opts
}

func clientOf(g *graph, q *queue, e *jobs.Encryptor) (*asynqjobs.Client, error) {
	c, err := asynqjobs.NewClient(asynq.NewClientFromRedisClient(q.client), e, g.system.asynqOptions()...)
	return c, g.jobsFailed(err)
}

func inspectorOf(q *queue) *asynq.Inspector { return asynq.NewInspectorFromRedisClient(q.client) }

// schedulerOf makes a Scheduler that runs while the application does.
func schedulerOf(g *graph, q *queue, c *asynqjobs.Client) (*asynqjobs.Scheduler, error) {
	var opts []asynqjobs.SchedulerOption
	if poll := g.system.in.Config.Jobs.Schedules.Poll; poll != 0 {
		opts = append(opts, asynqjobs.WithPollInterval(poll))
	}
	if catchUp := g.system.in.Config.Jobs.Schedules.CatchUp; catchUp != 0 {
		opts = append(opts, asynqjobs.WithCatchUp(catchUp))
	}
	s, err := asynqjobs.NewScheduler(q.client, c, opts...)
	if errors.Is(err, jobs.ErrNoPRF) {
		err = fmt.Errorf("the application takes an *asynqjobs.Scheduler: set jobs.prf_keyset: %w", err)
	}
	if err != nil {
		return nil, g.jobsFailed(err)
	}
	running, end := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	g.system.in.Lifecycle.Append(fx.Hook{
		OnStart: func(context.Context) error {
			go func() { ended <- s.Run(running) }()
			return nil
		},
		OnStop: func(ctx context.Context) error {
			end()
			early, cancel := inTime(ctx)
			defer cancel()
			select {
			case err := <-ended:
				return err
			case <-early.Done():
				return fmt.Errorf("fxmodule: jobs: the scheduler still waits for Redis: %w", early.Err())
			}
		},
	})
	return s, nil
}

// closer makes an io.Closer of a function.
type closer func() error

func (c closer) Close() error { return c() }
