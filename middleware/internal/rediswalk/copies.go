package rediswalk

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/errgroup"

	"github.com/sealcache/sealcache/internal/rediscmd"
	"github.com/sealcache/sealcache/internal/rediserr"
	"github.com/sealcache/sealcache/internal/sleep"
)

// Copies reads copies back in a Cluster before their originals, on other masters, are deleted. It returns a copy only after
// the replicas of its master have confirmed it, so that a failover cannot lose it. Its methods are safe for concurrent use.
type Copies struct {
	servers    *Servers
	mark       string
	allowFewer bool
	within     time.Duration

	mu sync.Mutex
	// most is how many replicas each master had at most, by its replication history. A master that has lost one may have been
	// replaced by it.
	most   map[string]int
	online map[string]int // replicas at the last look, by the address of the master
}

// markSource writes something that nothing can see. WAIT waits for all earlier writes to a node, but only on a connection
// that has written. KEYS: a name without an entry.
const markSource = `
if not redis.call('SET', KEYS[1], '', 'NX') then return 0 end
return redis.call('DEL', KEYS[1])`

var (
	errUnmarked = errors.New("a Redis master was replaced before the run had read back what it wrote (repeat the run)")
	errCopyLost = errors.New("a tag set in Redis lacks an entry that the run wrote (repeat the run)")
)

// Member is a member of a set.
type Member struct {
	Set, Name string
	Until     int64 // Unix milliseconds: from then on the set may be without it; -1 never
}

// NewCopies returns Copies for masters that have these replicas: see Replicas. It writes names that start with mark,
// which no entry has. With allowFewer, the replicas that are left confirm the copies. Replicas may take as long as within.
func NewCopies(ctx context.Context, s *Servers, mark string, replicas map[string]int, allowFewer bool, within time.Duration) (*Copies, error) {
	c := &Copies{servers: s, mark: mark, allowFewer: allowFewer, within: within, most: make(map[string]int), online: make(map[string]int)}
	states, err := s.States(ctx)
	for _, m := range states {
		// A replica that is being filled may be one that had everything before.
		c.most[m.History] = max(m.Online, min(replicas[m.RunID]+m.Syncing, 1))
	}
	return c, err
}

// Read returns the values of copies, nil for those that do not exist or are not strings. Members that sets lack make it fail,
// and the caller adds them again. It returns ErrUnconfirmed if replicas have not confirmed the copies in time, or if a master
// has fewer replicas than before. Other errors are transient.
func (c *Copies) Read(ctx context.Context, names []string, members []Member) ([][]byte, error) {
	values := make([][]byte, len(names))
	portions := make(map[*redis.Client]*portion)
	of := func(name string) (*portion, error) {
		node, err := c.servers.cluster.MasterForKey(ctx, name)
		if err != nil {
			return nil, fmt.Errorf("cannot read back the entries that the run wrote: %w", rediserr.Wrap(err))
		}
		if portions[node] == nil {
			portions[node] = &portion{node: node}
		}
		return portions[node], nil
	}
	for i, name := range names {
		p, err := of(name)
		if err != nil {
			return nil, err
		}
		p.names, p.at = append(p.names, name), append(p.at, i)
	}
	for _, m := range members {
		p, err := of(m.Set)
		if err != nil {
			return nil, err
		}
		p.members = append(p.members, m)
	}
	g, ctx := errgroup.WithContext(ctx)
	for _, p := range portions {
		g.Go(func() error {
			read, err := c.read(ctx, p)
			for i, v := range read {
				values[p.at[i]] = v
			}
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	return values, nil
}

// portion is what one master has.
type portion struct {
	node    *redis.Client
	names   []string
	at      []int // positions of the names
	members []Member
}

// read reads a portion by one connection, so that all answers are of the master that confirms them.
func (c *Copies) read(ctx context.Context, p *portion) ([][]byte, error) {
	mark, err := c.markOn(ctx, p.node)
	if err != nil {
		return nil, err
	}
	until := time.Now().Add(c.within)
	pipe := p.node.Pipeline()
	marked := pipe.Eval(ctx, markSource, []string{mark})
	before := pipe.Info(ctx, "replication")
	c.wait(ctx, pipe, p.node)
	after := pipe.Info(ctx, "replication")
	gets, isMember := make([]*redis.StringCmd, len(p.names)), make([]*redis.BoolCmd, len(p.members))
	for i, name := range p.names {
		gets[i] = pipe.Get(ctx, name)
	}
	for i, m := range p.members {
		isMember[i] = pipe.SIsMember(ctx, m.Set, m.Name)
	}
	_, _ = rediscmd.Exec(ctx, pipe) // every command has its own error
	if n, err := marked.Int(); err != nil || n != 1 {
		return nil, c.failed(ctx, err)
	}
	target, err := c.stateOf(p.node, before)
	if err != nil {
		return nil, c.failed(ctx, err)
	}
	if err := c.await(ctx, p.node, target, after, until); err != nil {
		return nil, err
	}
	var missing []Member
	for i, cmd := range isMember {
		switch is, err := cmd.Result(); {
		case err != nil && rediserr.Code(err) != "WRONGTYPE":
			return nil, c.failed(ctx, err)
		case err == nil && !is:
			missing = append(missing, p.members[i])
		}
	}
	if err := c.expired(ctx, p.node, missing); err != nil {
		return nil, err
	}
	values := make([][]byte, len(gets))
	for i, cmd := range gets {
		if values[i], err = valueOf(cmd); err != nil {
			return nil, c.failed(ctx, err)
		}
	}
	return values, nil
}

// expired returns errCopyLost unless all members were to end before this moment, by the clock of their node.
func (c *Copies) expired(ctx context.Context, node *redis.Client, members []Member) error {
	if len(members) == 0 {
		return nil
	}
	info, err := node.Info(ctx, "server").Result()
	if err != nil {
		return c.failed(ctx, c.servers.infoError(node, err))
	}
	now, _ := strconv.ParseInt(rediscmd.InfoField(info, "server_time_usec"), 10, 64)
	for _, m := range members {
		if m.Until < 0 || m.Until > now/1000 {
			return errCopyLost
		}
	}
	return nil
}

// await waits until the replicas have all that their master had at target.
func (c *Copies) await(ctx context.Context, node *redis.Client, target State, last *redis.StringCmd, until time.Time) error {
	for {
		now, err := c.stateOf(node, last)
		if err != nil {
			return c.failed(ctx, err)
		}
		if now.History != target.History {
			return errUnmarked
		}
		if c.confirmed(node, now, target.Offset) {
			return nil
		}
		switch {
		case sleep.For(ctx, confirmEvery) != nil:
			return context.Cause(ctx)
		case time.Now().After(until):
			return ErrUnconfirmed
		}
		pipe := node.Pipeline()
		c.wait(ctx, pipe, node)
		last = pipe.Info(ctx, "replication")
		_, _ = rediscmd.Exec(ctx, pipe)
	}
}

// confirmed reports whether all replicas of a master have reached the target.
func (c *Copies) confirmed(node *redis.Client, now State, target int64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.online[node.Options().Addr] = now.Online
	if _, known := c.most[now.History]; !known && now.Online == 0 && now.Syncing > 0 && !c.allowFewer {
		return false // a replica that was promoted, and whose own replica is being filled
	}
	c.most[now.History] = max(c.most[now.History], now.Online)
	if now.Online < c.most[now.History] && !c.allowFewer {
		return false
	}
	return now.Online == 0 || now.Offset-now.LagBytes >= target
}

// wait adds WAIT to a pipeline, which makes the replicas answer at once and not once a second. If the user may not call it,
// the next look at their offsets decides all the same.
func (c *Copies) wait(ctx context.Context, pipe redis.Pipeliner, node *redis.Client) {
	c.mu.Lock()
	replicas := c.online[node.Options().Addr]
	c.mu.Unlock()
	most := min(time.Second, c.within)
	if t := node.Options().ReadTimeout; t > 0 {
		most = min(most, t/3) // the reply has to come within it
	}
	most = max(most, time.Millisecond) // 0 would wait without end
	_ = pipe.Do(ctx, "wait", replicas, most.Milliseconds())
}

// markOn returns a name that a master has, and that no entry has.
func (c *Copies) markOn(ctx context.Context, node *redis.Client) (string, error) {
	const most = 16 * clusterSlots // a master with a single slot is found with high probability
	for range most {
		name := c.mark + rand.Text()
		owner, err := c.servers.cluster.MasterForKey(ctx, name)
		if err != nil {
			return "", fmt.Errorf("cannot read back the entries that the run wrote: %w", rediserr.Wrap(err))
		}
		if owner == node {
			return name, nil
		}
	}
	return "", errUnmarked
}

// failed returns the error of a command on a node. The client asks again where the slots are.
func (c *Copies) failed(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if r, ok := c.servers.Client.(interface{ ReloadState(ctx context.Context) }); ok {
		r.ReloadState(ctx)
	}
	switch {
	case err == nil:
		return errUnmarked
	case errors.Is(err, ErrInfoRefused):
		return err
	}
	return fmt.Errorf("cannot read back the entries that the run wrote: %w", rediserr.Wrap(err))
}

// stateOf reads the answer to INFO. NewCopies has asked the masters for INFO before.
func (c *Copies) stateOf(node *redis.Client, info *redis.StringCmd) (State, error) {
	text, err := info.Result()
	if err != nil {
		return State{}, c.servers.infoError(node, err)
	}
	if rediscmd.InfoField(text, "role") != "master" {
		return State{}, errReplica
	}
	return parseState(text), nil
}
