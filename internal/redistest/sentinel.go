package redistest

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/sealcache/sealcache/internal/rediscmd"
)

// SentinelOptions describes a Sentinel. The zero value needs no password.
type SentinelOptions struct {
	// Password is the password of master and replica.
	Password string
	// SentinelPassword is the password of the sentinel itself.
	SentinelPassword string
	// TLS makes master, replica and sentinel use only TLS, also among each other, with certificates of one CA.
	TLS bool
}

// Sentinel is a master with one replica and one sentinel that watches them under the name [MasterName].
type Sentinel struct {
	opts     SentinelOptions
	data     [2]*Server // master and replica at the start
	sentinel *Server
}

// MasterName is the name under which a sentinel of this package knows its master.
const MasterName = "mymaster"

// StartSentinel starts master, replica and sentinel, waits until they know each other, and stops them when the test
// ends.
func StartSentinel(t testing.TB) *Sentinel {
	t.Helper()
	return StartSentinelWith(t, SentinelOptions{})
}

// StartSentinelWith starts a sentinel as StartSentinel does, with SentinelOptions.
func StartSentinelWith(t testing.TB, opts SentinelOptions) *Sentinel {
	t.Helper()
	return start(t, func(ctx context.Context) (*Sentinel, error) {
		s := &Sentinel{opts: opts}
		if err := s.start(ctx); err != nil {
			return nil, errors.Join(err, s.Close())
		}
		return s, nil
	})
}

func (s *Sentinel) start(ctx context.Context) error {
	auth := []string{"--repl-diskless-sync-delay", "0"}
	if s.opts.Password != "" {
		auth = append(auth, "--masterauth", s.opts.Password)
	}
	var err error
	if s.data[0], err = Run(ctx, Options{Password: s.opts.Password, Args: auth, TLS: s.opts.TLS}); err != nil {
		return err
	}
	certs := s.data[0].certs
	replicaof := append([]string{"--replicaof", fmt.Sprintf("127.0.0.1 %d", s.data[0].port)}, auth...)
	if s.data[1], err = Run(ctx, Options{Password: s.opts.Password, Args: replicaof, TLS: s.opts.TLS, certs: certs}); err != nil {
		return err
	}
	// A sentinel rewrites its configuration, so it needs a separate file.
	conf := func(dir string) error {
		var b strings.Builder
		fmt.Fprintf(&b, "sentinel monitor %s 127.0.0.1 %d 1\n", MasterName, s.data[0].port)
		// A machine that stops for seconds causes no failover. AwaitMaster shortens the time.
		fmt.Fprintf(&b, "sentinel down-after-milliseconds %s 60000\n", MasterName)
		fmt.Fprintf(&b, "sentinel failover-timeout %s 30000\n", MasterName)
		if s.opts.Password != "" {
			fmt.Fprintf(&b, "sentinel auth-pass %s %s\n", MasterName, s.opts.Password)
		}
		if s.opts.SentinelPassword != "" {
			fmt.Fprintf(&b, "requirepass %s\n", s.opts.SentinelPassword)
		}
		return os.WriteFile(filepath.Join(dir, "sentinel.conf"), []byte(b.String()), 0o600)
	}
	if s.sentinel, err = launch(ctx, Options{Password: s.opts.SentinelPassword, TLS: s.opts.TLS, certs: certs}, false, conf); err != nil {
		return err
	}
	if err := s.shortenPeriods(ctx); err != nil {
		return err
	}
	return s.awaitReplica(ctx, s.data[1])
}

// shortenPeriods makes the sentinel ask its servers every 200 ms. With its default of 10 s, each failover would take 20 s.
// It also keeps the sentinel from its TILT mode, which does nothing for 30 s after the machine has stopped for 2 s.
func (s *Sentinel) shortenPeriods(ctx context.Context) error {
	rdb := redis.NewClient(s.sentinel.ClientOptions())
	defer func() { _ = rdb.Close() }()
	err := rdb.Do(ctx, "sentinel", "debug", "info-period", 200, "ping-period", 200, "publish-period", 200,
		"tilt-trigger", 60_000).Err()
	if err != nil && !redis.HasErrorPrefix(err, "ERR") { // Redis before 7.0 does not know the setting, so failovers are slow
		return fmt.Errorf("redistest: call SENTINEL DEBUG: %w", err)
	}
	return nil
}

// awaitReplica waits until a server is a connected replica and the sentinel knows it.
func (s *Sentinel) awaitReplica(ctx context.Context, replica *Server) error {
	rdb := redis.NewClient(replica.ClientOptions())
	defer func() { _ = rdb.Close() }()
	watch := redis.NewSentinelClient(s.sentinel.ClientOptions())
	defer func() { _ = watch.Close() }()
	return until(ctx, "the replica did not connect to its master", func() (bool, error) {
		info, err := rdb.Info(ctx, "replication").Result()
		if err != nil || !strings.Contains(info, "role:slave") || !strings.Contains(info, "master_link_status:up") {
			return false, err
		}
		replicas, err := watch.Replicas(ctx, MasterName).Result()
		if err != nil || len(replicas) != 1 {
			return false, err
		}
		r := replicas[0]
		return r["flags"] == "slave" && r["master-link-status"] == "ok", nil
	})
}

// Addr returns the address of the sentinel.
func (s *Sentinel) Addr() string { return s.sentinel.Addr() }

// URL returns redis+sentinel:// or rediss+sentinel:// for the master.
func (s *Sentinel) URL() string {
	q := s.sentinel.tlsOptions()
	q.Set("master", MasterName)
	if s.opts.SentinelPassword != "" {
		q.Set("sentinel_password", s.opts.SentinelPassword)
	}
	u := url.URL{Scheme: "redis+sentinel", Host: s.Addr(), Path: "/0", RawQuery: q.Encode()}
	if s.opts.TLS {
		u.Scheme = "rediss+sentinel"
	}
	if s.opts.Password != "" {
		u.User = url.UserPassword("", s.opts.Password)
	}
	return u.String()
}

// ClientOptions returns new options for a go-redis failover client, with the timeouts of those for one server.
func (s *Sentinel) ClientOptions() *redis.FailoverOptions {
	o := s.data[0].clientOptions(s.Addr())
	o.MasterName, o.SentinelPassword = MasterName, s.opts.SentinelPassword
	return o.Failover()
}

// Client returns a client of the current master. It is closed when the test ends.
func (s *Sentinel) Client(t testing.TB) *redis.Client {
	t.Helper()
	rdb := redis.NewFailoverClient(s.ClientOptions())
	t.Cleanup(func() { _ = rdb.Close() })
	return rdb
}

// Master asks the sentinel for the master.
func (s *Sentinel) Master(t testing.TB) *Server {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	m, err := s.master(ctx)
	noError(t, err)
	return m
}

func (s *Sentinel) master(ctx context.Context) (*Server, error) {
	watch := redis.NewSentinelClient(s.sentinel.ClientOptions())
	defer func() { _ = watch.Close() }()
	addr, err := watch.GetMasterAddrByName(ctx, MasterName).Result()
	if err != nil {
		return nil, fmt.Errorf("redistest: ask the Sentinel for the master: %w", err)
	}
	for _, d := range s.data {
		if len(addr) == 2 && strings.HasSuffix(d.Addr(), ":"+addr[1]) {
			return d, nil
		}
	}
	return nil, fmt.Errorf("redistest: the Sentinel reports the master %q, which this test did not start", addr)
}

// Replica returns the server that is not the master.
func (s *Sentinel) Replica(t testing.TB) *Server {
	t.Helper()
	if m := s.Master(t); m != s.data[0] {
		return s.data[0]
	}
	return s.data[1]
}

// Failover makes the replica the master and returns when both servers and the sentinel agree. It first waits for the
// replica, because replication is asynchronous. So writes before the call are not lost.
func (s *Sentinel) Failover(t testing.TB) {
	t.Helper()
	old, promoted := s.Master(t), s.Replica(t)
	ctx, cancel := context.WithTimeout(context.Background(), 3*startTimeout)
	defer cancel()
	noError(t, caughtUp(ctx, old, promoted))
	watch := redis.NewSentinelClient(s.sentinel.ClientOptions())
	defer func() { _ = watch.Close() }()
	// The sentinel refuses until it has exchanged a few messages with the replica.
	noError(t, until(ctx, "call SENTINEL FAILOVER", func() (bool, error) {
		err := watch.Failover(ctx, MasterName).Err()
		return err == nil, err
	}))
	noError(t, s.awaitMaster(ctx, promoted))
	noError(t, s.awaitReplica(ctx, old))
}

// caughtUp waits until a replica has the present data of its master.
func caughtUp(ctx context.Context, master, replica *Server) error {
	from, to := redis.NewClient(master.ClientOptions()), redis.NewClient(replica.ClientOptions())
	defer func() { _ = errors.Join(from.Close(), to.Close()) }()
	offset := func(rdb *redis.Client) (n int64, err error) {
		info, err := rdb.Info(ctx, "replication").Result()
		if err != nil {
			return 0, err
		}
		return strconv.ParseInt(rediscmd.InfoField(info, "master_repl_offset"), 10, 64)
	}
	want, err := offset(from)
	if err != nil {
		return fmt.Errorf("redistest: ask the master for its replication offset: %w", err)
	}
	return until(ctx, "the replica did not receive all writes of its master", func() (bool, error) {
		have, err := offset(to)
		return have >= want, err
	})
}

// AwaitMaster waits until the sentinel and the server agree that the server is the master, after the former master was
// killed.
func (s *Sentinel) AwaitMaster(t testing.TB, want *Server) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 3*startTimeout)
	defer cancel()
	watch := redis.NewSentinelClient(s.sentinel.ClientOptions())
	defer func() { _ = watch.Close() }()
	if err := watch.Set(ctx, MasterName, "down-after-milliseconds", "1000").Err(); err != nil {
		t.Fatalf("redistest: call SENTINEL SET: %v", err)
	}
	noError(t, s.awaitMaster(ctx, want))
}

func (s *Sentinel) awaitMaster(ctx context.Context, want *Server) error {
	rdb := redis.NewClient(want.ClientOptions())
	defer func() { _ = rdb.Close() }()
	return until(ctx, "the Sentinel did not make a replica the new master", func() (bool, error) {
		m, err := s.master(ctx)
		if err != nil || m != want {
			return false, err
		}
		info, err := rdb.Info(ctx, "replication").Result()
		return strings.Contains(info, "role:master"), err
	})
}

// Close kills sentinel, replica and master.
func (s *Sentinel) Close() error {
	var errs []error
	for _, srv := range []*Server{s.sentinel, s.data[1], s.data[0]} {
		if srv != nil {
			errs = append(errs, srv.Close())
		}
	}
	return errors.Join(errs...)
}
