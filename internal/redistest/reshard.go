package redistest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
)

// A slot moves from one master to another as redis-cli moves it. It is opened, its keys are moved with MIGRATE, and it
// is closed at its new master. Between the two, the old master answers ASK for a key that it does not have.

// MoveSlots moves slots with their keys to the master to, from their present masters. It waits before each slot until
// the masters agree about the last one. Otherwise a new master that does not know the old one does not raise its epoch.
// A late message of the old one then makes it give up the slot. Then no master has the slot, and the new one deletes
// its keys.
func (c *Cluster) MoveSlots(ctx context.Context, to *Server, slots ...int) error {
	for _, slot := range slots {
		if err := c.agree(ctx); err != nil {
			return err
		}
		from, err := c.OpenSlot(ctx, to, slot)
		if err != nil {
			return err
		}
		if from == to {
			continue
		}
		for {
			n, err := MoveKeys(ctx, from, to, slot, 100)
			if err != nil {
				return err
			}
			if n == 0 {
				break
			}
		}
		if err := c.CloseSlot(ctx, to, slot); err != nil {
			return err
		}
	}
	return nil
}

// agree waits until each master has the same view of the others as they have of themselves.
func (c *Cluster) agree(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 3*startTimeout)
	defer cancel()
	var nodes []*redis.Client
	for _, s := range c.Nodes() {
		node := redis.NewClient(s.ClientOptions())
		defer func() { _ = node.Close() }()
		nodes = append(nodes, node)
	}
	return until(ctx, "the Cluster masters do not agree on who owns the slots", func() (bool, error) {
		says := make(map[string]string) // of itself, by its id
		var others []map[string]string  // of others
		for _, node := range nodes {
			text, err := node.ClusterNodes(ctx).Result()
			if err != nil {
				return false, err
			}
			of := make(map[string]string)
			for line := range strings.Lines(text) { // id, address, flags, master, two times, epoch, state, slots
				f := strings.Fields(line)
				if len(f) < 8 || !strings.Contains(f[2], "master") {
					continue
				}
				slots := slices.DeleteFunc(f[8:], func(s string) bool { return strings.HasPrefix(s, "[") })
				of[f[0]] = f[6] + " " + strings.Join(slots, " ")
				if strings.Contains(f[2], "myself") {
					says[f[0]] = of[f[0]]
				}
			}
			others = append(others, of)
		}
		for _, of := range others {
			for id, text := range of {
				if says[id] != "" && says[id] != text {
					return false, nil
				}
			}
		}
		return true, nil
	})
}

// OpenSlot begins to move a slot to the master to, and returns the master that has it. It does nothing if the two are
// the same.
func (c *Cluster) OpenSlot(ctx context.Context, to *Server, slot int) (from *Server, err error) {
	err = c.control(func(node map[*Server]*control) error {
		if from, err = ownerOf(ctx, node, slot); err != nil || from == to {
			return err
		}
		if err := node[to].do(ctx, "cluster", "setslot", slot, "importing", node[from].id); err != nil {
			return err
		}
		return node[from].do(ctx, "cluster", "setslot", slot, "migrating", node[to].id)
	})
	return from, err
}

// CloseSlot gives a slot to a master, which must have its keys.
func (c *Cluster) CloseSlot(ctx context.Context, to *Server, slot int) error {
	return c.control(func(node map[*Server]*control) error {
		for s, n := range node {
			if s == to {
				continue
			}
			// Redis refuses this only until gossip has announced the new master; after that it deletes the keys.
			if left, err := n.ClusterCountKeysInSlot(ctx, slot).Result(); err != nil {
				return fmt.Errorf("redistest: count the keys of a Cluster slot: %w", err)
			} else if left > 0 {
				return fmt.Errorf("redistest: move a Cluster slot: the old master still has %d keys of the slot", left)
			}
		}
		// The new master comes first: between two masters that claim the slot, the newer epoch wins. Without any master
		// the keys would be lost.
		if err := node[to].do(ctx, "cluster", "setslot", slot, "node", node[to].id); err != nil {
			return err
		}
		for s, n := range node {
			if s == to {
				continue
			}
			if err := n.do(ctx, "cluster", "setslot", slot, "node", node[to].id); err != nil {
				return err
			}
		}
		return nil
	})
}

// MoveKeys moves at most this many keys of an open slot, and returns how many it moved.
func MoveKeys(ctx context.Context, from, to *Server, slot, most int) (int, error) {
	rdb := redis.NewClient(from.ClientOptions())
	defer func() { _ = rdb.Close() }()
	keys, err := rdb.ClusterGetKeysInSlot(ctx, slot, most).Result()
	if err != nil || len(keys) == 0 {
		return 0, err
	}
	args := []any{"migrate", "127.0.0.1", strconv.Itoa(to.port), "", 0, startTimeout.Milliseconds()}
	switch o := to.opts; {
	case o.User != "":
		args = append(args, "auth2", o.User, o.Password)
	case o.Password != "":
		args = append(args, "auth", o.Password)
	}
	args = append(args, "keys")
	for _, k := range keys {
		args = append(args, k)
	}
	if err := rdb.Do(ctx, args...).Err(); err != nil {
		return 0, fmt.Errorf("redistest: call MIGRATE: %w", err)
	}
	return len(keys), nil
}

// AddMaster adds a master without slots, waits until all know it, and stops it when the test ends.
func (c *Cluster) AddMaster(t testing.TB) *Server {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 3*startTimeout)
	defer cancel()
	opts := c.nodes[0].opts
	opts.certs = c.nodes[0].certs
	s, err := launch(ctx, opts, true, nil)
	noError(t, err)
	c.nodes = append(c.nodes, s) // Close closes it, too
	known := fmt.Sprintf("cluster_known_nodes:%d\r\n", len(c.nodes))
	err = c.control(func(node map[*Server]*control) error {
		if err := s.meet(ctx, node[c.nodes[0]].Client); err != nil {
			return err
		}
		for _, n := range node {
			if err := until(ctx, "the Cluster nodes do not know the new master", func() (bool, error) {
				info, err := n.ClusterInfo(ctx).Result()
				return strings.Contains(info, "cluster_state:ok") && strings.Contains(info, known), err
			}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatalf("redistest: add a master: %v", err)
	}
	return s
}

// Promote makes a replica of StartReplica the master in the place of its master, which becomes its replica. It waits
// until all agree. The servers of Nodes stay the same.
func (c *Cluster) Promote(ctx context.Context, replica *Server) error {
	rdb := redis.NewClient(replica.ClientOptions())
	defer func() { _ = rdb.Close() }()
	id, err := rdb.ClusterMyID(ctx).Result()
	if err != nil {
		return fmt.Errorf("redistest: call CLUSTER MYID: %w", err)
	}
	return c.control(func(node map[*Server]*control) error {
		for {
			if err := until(ctx, "call CLUSTER FAILOVER", func() (bool, error) {
				info, err := rdb.Info(ctx, "replication").Result()
				if err == nil && !strings.Contains(info, "role:master") {
					err = rdb.ClusterFailover(ctx).Err() // refused while the link to the master is new
				}
				return err == nil, err
			}); err != nil {
				return err
			}
			// Redis gives up after 5 s, for instance on a machine that has stopped for some. It says so nowhere.
			round, cancel := context.WithTimeout(ctx, startTimeout/2)
			err := listMaster(round, node, id)
			cancel()
			if err == nil || ctx.Err() != nil || !errors.Is(err, context.DeadlineExceeded) {
				return err
			}
		}
	})
}

// listMaster waits until all nodes list a master.
func listMaster(ctx context.Context, nodes map[*Server]*control, id string) error {
	for _, n := range nodes {
		if err := until(ctx, "the Cluster nodes do not list the new master", func() (bool, error) {
			slots, err := slotsOf(ctx, n.Client)
			return slices.ContainsFunc(slots, func(s redis.ClusterSlot) bool { return masterOf(s) == id }), err
		}); err != nil {
			return err
		}
	}
	return nil
}

// control is a connection to one node.
type control struct {
	*redis.Client
	id string
}

func (n *control) do(ctx context.Context, args ...any) error {
	if err := n.Do(ctx, args...).Err(); err != nil {
		return fmt.Errorf("redistest: call the Redis command %v %v: %w", args[0], args[1], err)
	}
	return nil
}

// control calls f with a connection to every running node.
func (c *Cluster) control(f func(node map[*Server]*control) error) (err error) {
	nodes := make(map[*Server]*control)
	defer func() {
		for _, n := range nodes {
			err = errors.Join(err, n.Close())
		}
	}()
	for _, s := range c.nodes {
		n := &control{Client: redis.NewClient(s.ClientOptions())}
		nodes[s] = n
		if n.id, err = n.ClusterMyID(context.Background()).Result(); err != nil {
			return fmt.Errorf("redistest: call CLUSTER MYID: %w", err)
		}
	}
	return f(nodes)
}

// ownerOf asks each master whether it has a slot, because the view of another master may be old.
func ownerOf(ctx context.Context, nodes map[*Server]*control, slot int) (*Server, error) {
	for s, n := range nodes {
		slots, err := slotsOf(ctx, n.Client)
		if err != nil {
			return nil, fmt.Errorf("redistest: call CLUSTER SLOTS: %w", err)
		}
		if slices.ContainsFunc(slots, func(s redis.ClusterSlot) bool { return s.Start <= slot && slot <= s.End && masterOf(s) == n.id }) {
			return s, nil
		}
	}
	return nil, fmt.Errorf("redistest: no Cluster master has the slot %d", slot)
}

// slotsOf returns the ranges of slots that a node lists.
func slotsOf(ctx context.Context, rdb *redis.Client) ([]redis.ClusterSlot, error) {
	return rdb.ClusterSlots(ctx).Result() //nolint:staticcheck // the clients read these, not CLUSTER SHARDS
}

// masterOf returns the id of the master of a range of slots, which comes before its replicas.
func masterOf(s redis.ClusterSlot) string {
	if len(s.Nodes) == 0 {
		return ""
	}
	return s.Nodes[0].ID
}
