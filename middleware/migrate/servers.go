package migrate

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync"

	"github.com/redis/go-redis/v9"
)

// servers are what a client talks to.
type servers struct {
	client  redis.UniversalClient
	cluster clusterClient // nil for a single node

	replica   bool // a replica will do
	unwatched bool // it will do that the user may not call INFO
}

// clusterClient is what a client of several nodes can do: *redis.ClusterClient and what embeds it.
type clusterClient interface {
	ForEachMaster(ctx context.Context, fn func(ctx context.Context, client *redis.Client) error) error
}

func newServers(client redis.UniversalClient) (*servers, error) {
	if client == nil || reflect.ValueOf(client).Kind() == reflect.Pointer && reflect.ValueOf(client).IsNil() {
		return nil, errors.New("migrate: no Redis client")
	}
	if c, ok := client.(interface{ Options() *redis.ClusterOptions }); ok {
		if o := c.Options(); o != nil && (o.ReadOnly || o.RouteByLatency || o.RouteRandomly) {
			return nil, errors.New("migrate: the client reads from replicas, which may lack what their masters have: give one without ReadOnly, RouteByLatency and RouteRandomly")
		}
	}
	s := &servers{client: client}
	var ok bool
	if s.cluster, ok = client.(clusterClient); ok {
		if _, single := client.(*redis.Client); !single {
			return s, nil
		}
		s.cluster = nil
	}
	if _, shards := client.(interface {
		ForEachShard(ctx context.Context, fn func(ctx context.Context, client *redis.Client) error) error
	}); shards {
		return nil, fmt.Errorf("migrate: %T is not supported: give a client of a single node, Sentinel or Cluster", client)
	}
	return s, nil
}

// errReplica is what does not go away by waiting, but in a Cluster, where it is what a client has not heard of yet.
var errReplica = errors.New("migrate: the server is a replica, which may lack what its master has: give the master")

type master struct {
	node  redis.Cmdable
	runID string // empty where the user may not ask for it
}

// masters are all of them, each with the name of its present run, and their layout at this moment.
func (s *servers) masters(ctx context.Context) ([]master, layout, error) {
	if s.cluster == nil {
		id, err := s.runID(ctx, s.client)
		if err != nil {
			return nil, layout{}, err
		}
		return []master{{s.client, id}}, layout{safe: true}, nil
	}
	var mu sync.Mutex
	var all []master
	var views []view
	err := s.cluster.ForEachMaster(ctx, func(ctx context.Context, c *redis.Client) error {
		id, err := s.runID(ctx, c)
		if err != nil {
			return err
		}
		v, err := viewOf(ctx, c)
		if err != nil {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		all, views = append(all, master{c, id}), append(views, v)
		return nil
	})
	if err == nil && len(all) == 0 {
		err = errors.New("the Cluster has no master")
	}
	if err != nil {
		return nil, layout{}, fmt.Errorf("migrate: masters: %w", err)
	}
	return all, layoutOf(views), nil
}

// database is the number of the selected database.
func (s *servers) database() int {
	if c, ok := s.client.(interface{ Options() *redis.Options }); ok && s.cluster == nil {
		if o := c.Options(); o != nil {
			return o.DB
		}
	}
	return 0
}

// otherDatabases lists those databases of a single node that hold anything and are not the selected one. Where the user may
// not ask there is none: see AuditReport.Unwatched.
func (s *servers) otherDatabases(ctx context.Context) ([]int, error) {
	if s.cluster != nil {
		return nil, nil
	}
	info, err := s.client.Info(ctx, "keyspace").Result()
	if forbidden(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("migrate: INFO: %w", err)
	}
	var others []int
	for line := range strings.Lines(info) {
		var n, keys int
		if _, err := fmt.Sscanf(line, "db%d:keys=%d", &n, &keys); err == nil && n != s.database() && keys > 0 {
			others = append(others, n)
		}
	}
	return others, nil
}

// at gives the same server with another database selected, by a client that is to be closed; nil if it cannot be had.
func (s *servers) at(ctx context.Context, database int) (*servers, error) {
	c, ok := s.client.(interface{ Options() *redis.Options })
	if !ok || s.cluster != nil || c.Options() == nil {
		return nil, nil
	}
	o := *c.Options()
	o.DB = database
	o.PushNotificationProcessor = nil // that of the other client
	// Defaults were filled in there; -1 says again what 0 says now.
	o.MaxRetries = cmp.Or(o.MaxRetries, -1)
	o.ReadTimeout, o.WriteTimeout = cmp.Or(o.ReadTimeout, -1), cmp.Or(o.WriteTimeout, -1)
	other := *s
	other.client = redis.NewClient(&o)
	if err := other.client.Info(ctx, "keyspace").Err(); err != nil {
		_ = other.client.Close()
		if forbidden(err) { // SELECT: INFO was allowed
			return nil, nil
		}
		return nil, fmt.Errorf("migrate: INFO: %w", err)
	}
	return &other, nil
}

// forbidden tells whether the user may not call a command.
func forbidden(err error) bool {
	return redis.HasErrorPrefix(err, "NOPERM") || redis.HasErrorPrefix(err, "ERR unknown command")
}

// runID names the run of a server, and in it the time since it last changed its role: a server that was a replica for a
// while has begun another history. The order in which it is scanned ends with either.
func (s *servers) runID(ctx context.Context, node redis.Cmdable) (string, error) {
	info, err := node.Info(ctx).Result()
	switch {
	case forbidden(err) && s.unwatched:
		return "", nil
	case forbidden(err):
		return "", errors.New("migrate: the user of Redis may not call INFO, without which a restart or failover that leaves entries out would not be noticed: allow it (ACL SETUSER name +info)")
	case err != nil:
		return "", fmt.Errorf("migrate: INFO: %w", err)
	}
	if field(info, "role:") == "slave" {
		switch {
		case !s.replica:
			return "", errReplica
		case field(info, "master_link_status:") != "up":
			return "", errors.New("migrate: the server is a replica that does not reach its master: what it holds may be long past")
		}
	}
	run, history := field(info, "run_id:"), field(info, "master_replid:")
	if run == "" || history == "" {
		return run, nil
	}
	return run + " " + history, nil
}

// field is a line of INFO.
func field(info, name string) string {
	_, value, _ := strings.Cut(info, "\n"+name)
	value, _, _ = strings.Cut(value, "\r\n")
	return value
}

// literal escapes what means something in a pattern of Redis (util.c, stringmatchlen).
func literal(s string) string {
	if !strings.ContainsAny(s, `*?[]\`) {
		return s
	}
	var b strings.Builder
	for i := range len(s) { // bytes: a key need not be UTF-8
		if strings.IndexByte(`*?[]\`, s[i]) >= 0 {
			b.WriteByte('\\')
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// pipelined runs what fill puts into a pipeline. Every command holds its own error; what is returned is one that says
// that the pipeline as a whole did not get through.
func (s *servers) pipelined(ctx context.Context, fill func(p redis.Pipeliner)) error {
	p := s.client.Pipeline()
	fill(p)
	cmds, err := p.Exec(ctx)
	if err == nil {
		return nil
	}
	for _, c := range cmds {
		var reply redis.Error
		if err := c.Err(); err != nil && !errors.As(err, &reply) {
			return withoutNames(err)
		}
	}
	return nil
}
