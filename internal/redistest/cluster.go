package redistest

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

const clusterSize, clusterSlots = 3, 16384

// Cluster is a Redis Cluster of three masters without replicas. Its methods are safe for concurrent use, except
// AddMaster.
type Cluster struct {
	nodes []*Server
}

// StartCluster starts three masters that share the slots and stops them when the test ends. Arguments are for each
// redis-server. The start takes about three seconds, so tests should share a cluster.
func StartCluster(t testing.TB, args ...string) *Cluster {
	t.Helper()
	return StartClusterWith(t, Options{Args: args})
}

// StartClusterWith starts a cluster as StartCluster does, with Options for each node. With TLS the nodes also use it
// among each other, and have one CA.
func StartClusterWith(t testing.TB, opts Options) *Cluster {
	t.Helper()
	return start(t, func(ctx context.Context) (*Cluster, error) { return RunCluster(ctx, opts) })
}

// RunCluster starts a cluster for callers without a testing.TB. The caller closes it.
func RunCluster(ctx context.Context, opts Options) (*Cluster, error) {
	c := &Cluster{}
	for range clusterSize {
		s, err := launch(ctx, opts, true, nil)
		if err != nil {
			return nil, errors.Join(err, c.Close())
		}
		c.nodes = append(c.nodes, s)
		opts.certs = s.certs
	}
	if err := c.join(ctx); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// join assigns the slots, makes the nodes meet, and waits until all agree.
func (c *Cluster) join(ctx context.Context) error {
	clients := make([]*redis.Client, len(c.nodes))
	for i, s := range c.nodes {
		clients[i] = redis.NewClient(s.ClientOptions())
		defer func() { _ = clients[i].Close() }()
		first, next := i*clusterSlots/clusterSize, (i+1)*clusterSlots/clusterSize
		if err := clients[i].ClusterAddSlotsRange(ctx, first, next-1).Err(); err != nil {
			return fmt.Errorf("redistest: assign the hash slots to the Cluster nodes: %w", err)
		}
		if err := clients[i].Do(ctx, "cluster", "set-config-epoch", i+1).Err(); err != nil {
			return fmt.Errorf("redistest: set the configuration epoch of a Cluster node: %w", err)
		}
	}
	for _, s := range c.nodes[1:] {
		if err := s.meet(ctx, clients[0]); err != nil {
			return err
		}
	}
	for _, rdb := range clients {
		if err := until(ctx, "the Redis servers did not form a Cluster", func() (bool, error) {
			info, err := rdb.ClusterInfo(ctx).Result()
			return strings.Contains(info, "cluster_state:ok") &&
				strings.Contains(info, fmt.Sprintf("cluster_known_nodes:%d\r\n", clusterSize)) &&
				strings.Contains(info, fmt.Sprintf("cluster_size:%d\r\n", clusterSize)), err
		}); err != nil {
			return err
		}
	}
	return nil
}

// meet makes a node know the server.
func (s *Server) meet(ctx context.Context, node *redis.Client) error {
	if err := node.Do(ctx, "cluster", "meet", "127.0.0.1", s.port, s.busPort).Err(); err != nil {
		return fmt.Errorf("redistest: call CLUSTER MEET: %w", err)
	}
	return nil
}

// until polls a condition until it holds or ctx ends. The error begins with failure, and has the condition's last error and that
// of ctx.
func until(ctx context.Context, failure string, holds func() (bool, error)) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		ok, err := holds()
		if ok && err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("redistest: %s: %w", failure, errors.Join(ctx.Err(), err))
		case <-tick.C:
		}
	}
}

// StartReplica starts a replica of the n-th master and stops it when the test ends. It returns when all masters know
// the replica and it has the master's data.
func (c *Cluster) StartReplica(t testing.TB, n int) *Server {
	t.Helper()
	return start(t, func(ctx context.Context) (*Server, error) { return c.runReplica(ctx, c.nodes[n]) })
}

func (c *Cluster) runReplica(ctx context.Context, master *Server) (*Server, error) {
	opts := master.opts
	opts.certs = master.certs
	if opts.Password != "" {
		opts.Args = append(slices.Clone(opts.Args), "--masterauth", opts.Password)
		if opts.User != "" {
			opts.Args = append(opts.Args, "--masteruser", opts.User)
		}
	}
	s, err := launch(ctx, opts, true, nil)
	if err != nil {
		return nil, err
	}
	if err := c.attach(ctx, master, s); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// attach makes a server a replica of a master, and waits until all masters list it.
func (c *Cluster) attach(ctx context.Context, master, s *Server) error {
	from, to := redis.NewClient(master.ClientOptions()), redis.NewClient(s.ClientOptions())
	defer func() { _ = errors.Join(from.Close(), to.Close()) }()
	if err := from.ConfigSet(ctx, "repl-diskless-sync-delay", "0").Err(); err != nil {
		return fmt.Errorf("redistest: call CONFIG SET repl-diskless-sync-delay: %w", err)
	}
	if err := s.meet(ctx, from); err != nil {
		return err
	}
	id, err := from.ClusterMyID(ctx).Result()
	if err != nil {
		return fmt.Errorf("redistest: call CLUSTER MYID: %w", err)
	}
	if err := until(ctx, "call CLUSTER REPLICATE", func() (bool, error) { // it has to meet its master first
		err := to.ClusterReplicate(ctx, id).Err()
		return err == nil, err
	}); err != nil {
		return err
	}
	for _, node := range c.nodes {
		rdb := redis.NewClient(node.ClientOptions())
		defer func() { _ = rdb.Close() }()
		if err := until(ctx, "the Cluster nodes do not list the new replica", func() (bool, error) {
			slots, err := slotsOf(ctx, rdb)
			return slices.ContainsFunc(slots, func(s redis.ClusterSlot) bool { return len(s.Nodes) == 2 }), err
		}); err != nil {
			return err
		}
	}
	return caughtUp(ctx, master, s)
}

// Nodes returns the masters in the order of their first slots, and then those of AddMaster.
func (c *Cluster) Nodes() []*Server { return append([]*Server(nil), c.nodes...) }

// Addrs returns the masters' addresses.
func (c *Cluster) Addrs() []string {
	addrs := make([]string, len(c.nodes))
	for i, s := range c.nodes {
		addrs[i] = s.Addr()
	}
	return addrs
}

// URL returns redis+cluster:// or rediss+cluster:// with every address.
func (c *Cluster) URL() string {
	user := ""
	if o := c.nodes[0].opts; o.Password != "" {
		user = url.UserPassword(o.User, o.Password).String() + "@"
	}
	addrs := user + strings.Join(c.Addrs(), ",")
	if c.nodes[0].opts.TLS {
		return "rediss+cluster://" + addrs + "?" + c.nodes[0].tlsOptions().Encode()
	}
	return "redis+cluster://" + addrs
}

// ClientOptions returns new options for a go-redis cluster client, with the timeouts of those for one server.
func (c *Cluster) ClientOptions() *redis.ClusterOptions {
	return c.nodes[0].clientOptions(c.Addrs()...).Cluster()
}

// Client returns a client of the cluster. It is closed when the test ends.
func (c *Cluster) Client(t testing.TB) *redis.ClusterClient {
	t.Helper()
	rdb := redis.NewClusterClient(c.ClientOptions())
	t.Cleanup(func() { _ = rdb.Close() })
	return rdb
}

// Close kills every node.
func (c *Cluster) Close() error {
	var errs []error
	for _, s := range c.nodes {
		errs = append(errs, s.Close())
	}
	return errors.Join(errs...)
}
