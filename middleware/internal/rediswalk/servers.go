package rediswalk

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/sealcache/sealcache/internal/nilcheck"
	"github.com/sealcache/sealcache/internal/rediscmd"
	"github.com/sealcache/sealcache/internal/rediserr"
)

// ErrUnsuitable marks a client that a scan cannot use. Nothing was read.
var ErrUnsuitable = errors.New("unusable Redis client")

// ErrClusterNode reports that a client for a single node is connected to one node of a Cluster. SCAN would see only the
// entries of this node, and every answer about the whole would be wrong. It is an ErrUnsuitable.
var ErrClusterNode = fmt.Errorf("%w: the server is in a Cluster (use a Cluster client: redis+cluster://)", ErrUnsuitable)

// Servers are the servers behind a client.
type Servers struct {
	Client redis.UniversalClient
	// AllowReplica accepts a server that is a replica.
	AllowReplica bool
	// AllowUnwatched accepts a server that does not offer INFO.
	AllowUnwatched bool

	cluster clusterClient // nil for a single node
	within  time.Duration // see Lasting; 0 if the context of the caller bounds the calls
	shown   *sync.Map     // the answers of INFO that came once, as keys; copies of the Servers share it
}

// clusterClient is implemented by *redis.ClusterClient and by types that embed it.
type clusterClient interface {
	ForEachMaster(ctx context.Context, fn func(ctx context.Context, client *redis.Client) error) error
	MasterForKey(ctx context.Context, key string) (*redis.Client, error)
}

// New accepts a client of a single node, of Sentinel or of a Cluster. The client must not read from replicas.
func New(client redis.UniversalClient) (*Servers, error) {
	if nilcheck.IsNil(client) {
		return nil, fmt.Errorf("%w: the Redis client is nil", ErrUnsuitable)
	}
	if c, ok := client.(interface{ Options() *redis.ClusterOptions }); ok {
		if o := c.Options(); o != nil && (o.ReadOnly || o.RouteByLatency || o.RouteRandomly) {
			return nil, fmt.Errorf("%w: the client reads from replicas (unset ReadOnly, RouteByLatency and RouteRandomly)", ErrUnsuitable)
		}
	}
	s := &Servers{Client: client, shown: new(sync.Map)}
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
		return nil, fmt.Errorf("%w: its type is %T (use a client of a single node, Sentinel or Cluster)", ErrUnsuitable, client)
	}
	return s, nil
}

// Clustered reports whether the client is one of a Cluster, where the keys of a script must share a slot.
func (s *Servers) Clustered() bool { return s.cluster != nil }

// errReplica is transient in a Cluster, where a client may not know the new master yet.
var errReplica = errors.New("the server is a replica, which may lack entries (connect to its master)")

// allowIt is the remedy where the server refuses a command to the user.
const allowIt = "allow it in the ACL of the Redis user, or in the proxy"

// ErrNoInfo reports that a server refused INFO and has not answered it before.
var ErrNoInfo = errors.New("the server refused INFO (" + allowIt + ")")

// ErrInfoRefused is transient, unlike ErrNoInfo: a server that has answered INFO once offers it.
var ErrInfoRefused = errors.New("the server now refuses INFO, although it answered INFO before (" + allowIt + ")")

// info returns INFO of a node. It returns ErrNoInfo if the node refuses INFO, or this section, and never answered it before.
func (s *Servers) info(ctx context.Context, node redis.Cmdable, section ...string) (string, error) {
	text, err := node.Info(ctx, section...).Result()
	if err == nil {
		s.shown.Store(s.answer(node, section...), true)
		return text, nil
	}
	return "", s.infoError(node, err, section...)
}

// answer returns the key of shown for an answer of a node.
func (s *Servers) answer(node redis.Cmdable, section ...string) string {
	answer := strings.Join(section, " ")
	if c, ok := node.(*redis.Client); ok && s.cluster != nil {
		answer = c.Options().Addr + " " + answer
	}
	return answer
}

// infoError returns the error of info for the error of the call. Callers that put INFO into a pipeline use it too.
func (s *Servers) infoError(node redis.Cmdable, err error, section ...string) error {
	_, shown := s.shown.Load(s.answer(node, section...))
	switch {
	case !rediserr.Unavailable(err):
		return CallError("INFO", err)
	case shown:
		return fmt.Errorf("%w: %w", ErrInfoRefused, rediserr.Wrap(err))
	case rediserr.NotOffered(err):
		return ErrNoInfo
	default:
		return fmt.Errorf("%w: %w", ErrNoInfo, rediserr.Wrap(err))
	}
}

type master struct {
	node  redis.Cmdable
	runID string // empty if the server does not offer INFO
}

// errNoMaster is transient. A node that was removed from the Cluster, or that begins to be a master, lists no slots to the client.
var errNoMaster = errors.New("the client found no master of the Redis Cluster (check the addresses of the nodes)")

// masters returns all masters, each with the name of its present run, and their layout.
func (s *Servers) masters(ctx context.Context) ([]master, layout, error) {
	if s.cluster == nil {
		id, err := s.RunID(ctx, s.Client)
		if err != nil {
			return nil, layout{}, err
		}
		return []master{{s.Client, id}}, layout{safe: true}, nil
	}
	var mu sync.Mutex
	var all []master
	var views []view
	err := s.cluster.ForEachMaster(ctx, func(ctx context.Context, c *redis.Client) error {
		id, err := s.RunID(ctx, c)
		if err != nil {
			return err
		}
		v, err := s.viewOf(ctx, c)
		if err != nil {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		all, views = append(all, master{c, id}), append(views, v)
		return nil
	})
	if err == nil && len(all) == 0 {
		return nil, layout{}, errNoMaster
	}
	if err != nil {
		return nil, layout{}, fmt.Errorf("cannot query the masters of the Redis Cluster: %w", rediserr.Wrap(err))
	}
	return all, layoutOf(views), nil
}

// errSingleReplica reports that a client for a single node is connected to a replica.
var errSingleReplica = fmt.Errorf("%w: the server is a replica (connect to its master or a Sentinel)", ErrUnsuitable)

// errNoCluster reports that a Cluster client is connected to servers without a Cluster, as redis.NewFailoverClusterClient is.
var errNoCluster = fmt.Errorf("%w: the server is not in a Cluster (use a client of a single node or Sentinel)", ErrUnsuitable)

// errSentinel reports that a client for a single node is connected to a Sentinel.
var errSentinel = fmt.Errorf("%w: the server is a Sentinel, which stores nothing (use redis+sentinel://)", ErrUnsuitable)

// Check returns an error if the servers of the client cannot be scanned.
func (s *Servers) Check(ctx context.Context) error {
	if s.cluster != nil {
		err := s.EachMaster(ctx, func(ctx context.Context, node redis.Cmdable) error { return node.ClusterInfo(ctx).Err() })
		if err != nil && strings.Contains(err.Error(), "cluster support disabled") {
			return errNoCluster
		}
		return nil // the scan returns other errors, and repeats calls
	}
	_, err := s.RunID(ctx, s.Client)
	if errors.Is(err, errReplica) && !slices.Contains(s.Addresses(), sentinelAddress) { // Sentinel finds the master in a moment
		return errSingleReplica
	}
	return err
}

// sentinelAddress is what go-redis calls the address of a client of Sentinel.
const sentinelAddress = "FailoverClient"

// EachMaster calls f for each master, one after the other. It returns an error if the client finds none.
func (s *Servers) EachMaster(ctx context.Context, f func(ctx context.Context, node redis.Cmdable) error) error {
	if s.cluster == nil {
		return f(ctx, s.Client)
	}
	var mu sync.Mutex
	found := false
	err := s.cluster.ForEachMaster(ctx, func(ctx context.Context, c *redis.Client) error {
		mu.Lock()
		defer mu.Unlock()
		found = true
		return f(ctx, c)
	})
	if err == nil && !found {
		err = errNoMaster
	}
	return err
}

// Database returns the number of the selected database.
func (s *Servers) Database() int {
	if c, ok := s.Client.(interface{ Options() *redis.Options }); ok && s.cluster == nil {
		if o := c.Options(); o != nil {
			return o.DB
		}
	}
	return 0
}

// OtherDatabases lists the databases of a single node that hold anything and are not the selected one. It returns ErrNoInfo
// if the server does not offer INFO, or does not list its databases there.
func (s *Servers) OtherDatabases(ctx context.Context) ([]int, error) {
	if s.cluster != nil {
		return nil, nil
	}
	info, err := s.info(ctx, s.Client)
	if err != nil {
		return nil, err
	}
	if !strings.Contains(info, "# Keyspace") {
		return nil, ErrNoInfo
	}
	var others []int
	for line := range strings.Lines(info) {
		var n, keys int
		if _, err := fmt.Sscanf(line, "db%d:keys=%d", &n, &keys); err == nil && n != s.Database() && keys > 0 {
			others = append(others, n)
		}
	}
	return others, nil
}

// DatabaseMoves is the state of a server's counters of SWAPDB and MOVE. A scan never names an entry that they bring into a
// database that was scanned.
type DatabaseMoves struct {
	Run    string `json:"run"`    // the run of the server
	Calls  int64  `json:"calls"`  // of SWAPDB and MOVE
	Infos  int64  `json:"infos"`  // calls of INFO, which only CONFIG RESETSTAT makes smaller
	Resets string `json:"resets"` // of CONFIG RESETSTAT: it remains after it has reset the other counters
}

// Since reports whether SWAPDB, MOVE or CONFIG RESETSTAT, which resets their counters, was called after an earlier state, or
// may have been called because the server showed its counters at one of the two times only.
func (m DatabaseMoves) Since(earlier DatabaseMoves) bool {
	switch {
	case (m.Run == "") != (earlier.Run == ""): // the server shows its counters at one of the two times
		return true
	case m.Run != earlier.Run:
		return m.Calls > 0 || m.Resets != "" // the counters of another run began at 0
	}
	return m.Calls != earlier.Calls || m.Infos < earlier.Infos || m.Resets != earlier.Resets
}

// DatabaseMoves returns the present state. It is always the same for a Cluster, and for a server that does not show it.
func (s *Servers) DatabaseMoves(ctx context.Context) (DatabaseMoves, error) {
	if s.cluster != nil {
		return DatabaseMoves{}, nil
	}
	info, err := s.info(ctx, s.Client, "all")
	if errors.Is(err, ErrNoInfo) || err == nil && !strings.Contains(info, "cmdstat_") {
		return DatabaseMoves{}, nil
	}
	if err != nil {
		return DatabaseMoves{}, err
	}
	calls := func(command string) (n int64) {
		_, _ = fmt.Sscanf(rediscmd.InfoField(info, "cmdstat_"+command), "calls=%d,", &n) // 0 if it was never called
		return n
	}
	resets, _, _ := strings.Cut(rediscmd.InfoField(info, "cmdstat_config|resetstat"), ",usec_per_call")
	return DatabaseMoves{rediscmd.InfoField(info, "run_id"), calls("swapdb") + calls("move"), calls("info"), resets}, nil
}

// At returns the same server with another database selected. The caller closes its Client. It is nil if the user may not
// select the database.
func (s *Servers) At(ctx context.Context, database int) (*Servers, error) {
	other := s.reconnected(database)
	if other == nil {
		return nil, nil
	}
	if err := other.Client.Info(ctx).Err(); err != nil {
		_ = other.Client.Close()
		if rediserr.Unavailable(err) { // SELECT: the other client was allowed INFO
			return nil, nil
		}
		return nil, CallError("INFO", err)
	}
	return other, nil
}

// reconnected returns the same server over a new client with a database selected. It is nil for a Cluster, and for a client
// whose options are unknown.
func (s *Servers) reconnected(database int) *Servers {
	c, ok := s.Client.(interface{ Options() *redis.Options })
	if !ok || s.cluster != nil || c.Options() == nil {
		return nil
	}
	o := *c.Options()
	o.DB = database
	restoreDefaults(&o)
	other := *s
	other.Client = redis.NewClient(&o)
	return &other
}

// RunID identifies the run of a server and its history since it last changed its role. A promoted replica has another
// history. If either changes, the cursors of a scan become invalid. RunID is empty if the server does not offer INFO.
func (s *Servers) RunID(ctx context.Context, node redis.Cmdable) (string, error) {
	info, err := s.info(ctx, node)
	if err != nil && (!s.AllowUnwatched || !errors.Is(err, ErrNoInfo)) {
		return "", err
	}
	if s.cluster == nil && rediscmd.ClusterNode(ctx, node, info) {
		return "", ErrClusterNode
	}
	if rediscmd.Sentinel(info) {
		return "", errSentinel
	}
	if rediscmd.InfoField(info, "role") == "slave" {
		switch {
		case !s.AllowReplica:
			return "", errReplica
		case rediscmd.InfoField(info, "master_link_status") != "up":
			return "", errors.New("the server is a replica that is not connected to its master, so it may hold old data")
		}
	}
	run, history := rediscmd.InfoField(info, "run_id"), rediscmd.InfoField(info, "master_replid")
	if run == "" || history == "" {
		return run, nil
	}
	return run + " " + history, nil
}

// restoreDefaults prepares the options of one client for another client, which fills in defaults again.
func restoreDefaults(o *redis.Options) {
	o.PushNotificationProcessor = nil // belongs to the first client
	// The first client has replaced 0 by its defaults, and -1 by 0.
	o.MaxRetries = cmp.Or(o.MaxRetries, -1)
	o.ReadTimeout, o.WriteTimeout = cmp.Or(o.ReadTimeout, -1), cmp.Or(o.WriteTimeout, -1)
}

// Addresses names the servers for reports, without users and passwords.
func (s *Servers) Addresses() []string {
	switch c := s.Client.(type) {
	case interface{ Options() *redis.ClusterOptions }:
		if o := c.Options(); o != nil {
			return slices.Clone(o.Addrs)
		}
	case interface{ Options() *redis.Options }:
		if o := c.Options(); o != nil {
			return []string{o.Addr}
		}
	}
	return nil
}
