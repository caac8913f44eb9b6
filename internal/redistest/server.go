package redistest

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// startTimeout bounds the time until a server answers. A busy machine needs a second or two, and may stop for some.
const startTimeout = time.Minute

// stopTimeout is how long a server may take to end by itself before it is killed.
const stopTimeout = 20 * time.Second

// portAttempts bounds the starts with other ports when another process has taken the first one.
const portAttempts = 8

// Options describes a server. The zero value is a server without persistence, TLS or password.
type Options struct {
	// AppendOnly keeps an append-only file that is synced at every write, so that acknowledged writes survive Kill.
	AppendOnly bool
	// TLS makes the port speak TLS only, with a certificate for 127.0.0.1 and localhost from a CA made for this server.
	TLS bool
	// TLSClientAuth also demands a certificate of the client, signed by the same CA. It needs TLS.
	TLSClientAuth bool
	// Password is the password of User, or of the default user if User is empty. With User, the default user is off.
	User, Password string
	// Rules are the ACL rules of User, by default "~* &* +@all".
	Rules string
	// Args are further arguments of redis-server, such as "--maxmemory", "16mb". They override the settings of this
	// package.
	Args []string

	certs *Certificates // of servers that trust each other; nil makes new ones
}

// Server is one redis-server process.
type Server struct {
	opts     Options
	dir      string
	port     int
	busPort  int // of the cluster bus; 0 without a cluster
	sentinel bool
	certs    *Certificates
	release  []func() // of the ports

	mu   sync.Mutex
	proc *process // nil while the server is down
	logs int64    // length of the log when the present process started
}

type process struct {
	*os.Process
	done chan struct{} // closed when the process has ended
}

// Start starts a server with further arguments for redis-server and stops it when the test ends. The test fails if the
// server does not start.
func Start(t testing.TB, args ...string) *Server {
	t.Helper()
	return StartWith(t, Options{Args: args})
}

// StartWith starts a server as Start does, with Options.
func StartWith(t testing.TB, opts Options) *Server {
	t.Helper()
	return start(t, func(ctx context.Context) (*Server, error) { return Run(ctx, opts) })
}

// noError ends the test if a call failed.
func noError(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// start runs servers for a test and closes them when the test ends.
func start[S io.Closer](t testing.TB, run func(ctx context.Context) (S, error)) S {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 3*startTimeout)
	defer cancel()
	s, err := run(ctx)
	noError(t, err)
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("closing the Redis servers failed: %v", err)
		}
	})
	return s
}

// Run starts a server and waits until it answers. The caller closes it. ctx bounds the start, not the life of the
// server.
func Run(ctx context.Context, opts Options) (*Server, error) {
	return launch(ctx, opts, false, nil)
}

// launch starts a server on free ports. If cluster is set, it has a cluster bus. If conf is not nil, it is a sentinel,
// and conf writes the sentinel's configuration.
func launch(ctx context.Context, opts Options, cluster bool, conf func(dir string) error) (*Server, error) {
	if _, err := exec.LookPath("redis-server"); err != nil {
		return nil, errors.New("redistest: redis-server is not in the PATH (run apt-get install redis-server)")
	}
	dir, err := os.MkdirTemp("", "redistest")
	if err != nil {
		return nil, fmt.Errorf("redistest: make a temporary directory: %w", err)
	}
	s := &Server{opts: opts, dir: dir, sentinel: conf != nil}
	fail := func(err error) (*Server, error) {
		return nil, errors.Join(err, s.Close())
	}
	if s.certs = opts.certs; opts.TLS && s.certs == nil {
		if s.certs, err = makeCertificates(dir); err != nil {
			return fail(err)
		}
	}
	if opts.User != "" {
		if err := s.writeACL(); err != nil {
			return fail(err)
		}
	}
	if conf != nil {
		if err := conf(dir); err != nil {
			return fail(fmt.Errorf("redistest: write the configuration of the Sentinel: %w", err))
		}
	}
	find := s.hold
	for range portAttempts {
		if s.port, err = find(); err != nil {
			return fail(err)
		}
		if cluster {
			if s.busPort, err = find(); err != nil {
				return fail(err)
			}
		}
		if err = s.start(ctx); err == nil {
			return s, nil
		}
		if !s.portTaken() {
			break
		}
		find = freePort // in case that this system refuses ports that are held
	}
	return fail(err)
}

// hold returns a free port that no other process gets before Close.
func (s *Server) hold() (int, error) {
	port, release, err := holdPort()
	if err == nil {
		s.release = append(s.release, release)
	}
	return port, err
}

// freePort returns a port that was free a moment ago.
func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("redistest: find a free port: %w", err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	return port, l.Close()
}

func (s *Server) writeACL() error {
	rules := cmp.Or(s.opts.Rules, "~* &* +@all")
	// The hash is needed, because a plaintext password in this file must not contain a space.
	acl := fmt.Sprintf("user default off\nuser %s on #%x %s\n", s.opts.User, sha256.Sum256([]byte(s.opts.Password)), rules)
	if err := os.WriteFile(filepath.Join(s.dir, "users.acl"), []byte(acl), 0o600); err != nil {
		return fmt.Errorf("redistest: write the ACL file of redis-server: %w", err)
	}
	return nil
}

func (s *Server) arguments() []string {
	var args []string
	if s.sentinel {
		args = append(args, filepath.Join(s.dir, "sentinel.conf"), "--sentinel")
	}
	port := strconv.Itoa(s.port)
	args = append(args,
		"--bind", "127.0.0.1",
		"--dir", s.dir,
		"--logfile", filepath.Join(s.dir, "redis.log"),
		"--daemonize", "no",
	)
	if s.opts.TLS {
		args = append(args, "--port", "0", "--tls-port", port,
			"--tls-cert-file", s.certs.CertFile,
			"--tls-key-file", s.certs.KeyFile,
			"--tls-ca-cert-file", s.certs.CAFile,
			"--tls-auth-clients", map[bool]string{false: "no", true: "yes"}[s.opts.TLSClientAuth],
			"--tls-replication", "yes", "--tls-cluster", "yes")
	} else {
		args = append(args, "--port", port)
	}
	if s.sentinel {
		return append(args, s.opts.Args...)
	}
	args = append(args,
		"--unixsocket", s.Socket(),
		"--save", "",
		"--rdbcompression", "no", // so that a search of the dump finds values
		"--appendonly", map[bool]string{false: "no", true: "yes"}[s.opts.AppendOnly],
		"--appendfsync", "always",
		"--databases", "16",
	)
	if s.busPort != 0 {
		args = append(args, "--cluster-enabled", "yes", "--cluster-config-file", "nodes.conf",
			"--cluster-port", strconv.Itoa(s.busPort),
			"--cluster-node-timeout", "30000", // a machine that stops for seconds loses no node
			"--cluster-allow-replica-migration", "no") // a master whose last slot moves away stays a master
	}
	switch {
	case s.opts.User != "":
		args = append(args, "--aclfile", filepath.Join(s.dir, "users.acl"))
	case s.opts.Password != "":
		args = append(args, "--requirepass", s.opts.Password)
	}
	return append(args, s.opts.Args...)
}

// start runs the process and waits until it answers.
func (s *Server) start(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.proc != nil {
		return errors.New("redistest: redis-server is already running")
	}
	if st, err := os.Stat(filepath.Join(s.dir, "redis.log")); err == nil {
		s.logs = st.Size()
	}
	cmd := exec.Command("redis-server", s.arguments()...)
	cmd.SysProcAttr = dieWithParent()
	var out bytes.Buffer // output before the log file is open
	cmd.Stdout, cmd.Stderr = &out, &out

	started := make(chan error, 1)
	p := &process{done: make(chan struct{})}
	go func() {
		// The signal at the parent's death belongs to the thread that started the child, so that thread has to stay.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(p.done)
		err := cmd.Start()
		if err == nil {
			p.Process = cmd.Process
		}
		started <- err
		if err == nil {
			_ = cmd.Wait() // the log has more than the exit status
		}
	}()
	if err := <-started; err != nil {
		return fmt.Errorf("redistest: start redis-server: %w", err)
	}
	s.proc = p

	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	err := s.await(ctx, p)
	if err == nil {
		return nil
	}
	_ = p.Kill()
	<-p.done
	s.proc = nil
	return fmt.Errorf("redistest: redis-server did not answer after its start: %w\n%s%s", err, out.Bytes(), s.logTail())
}

// await returns when the server answers PING, the process has ended, or ctx ends.
func (s *Server) await(ctx context.Context, p *process) error {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	opts := s.ClientOptions()
	opts.DialTimeout, opts.MaxRetries, opts.DialerRetries = time.Second, -1, 1
	rdb := redis.NewClient(opts)
	defer func() { _ = rdb.Close() }()
	for {
		var reply error
		if s.listens() {
			if reply = rdb.Ping(ctx).Err(); reply == nil && s.ownAnswer(ctx, rdb, p) {
				return nil
			}
		}
		select {
		case <-p.done:
			return errors.New("the process redis-server ended")
		case <-ctx.Done():
			return errors.Join(ctx.Err(), reply)
		case <-tick.C:
		}
	}
}

// listens reports whether the port accepts connections. go-redis would log each failed dial.
func (s *Server) listens() bool {
	c, err := net.DialTimeout("tcp", s.Addr(), time.Second)
	if err != nil {
		return false
	}
	_ = c.Close()
	return true
}

// ownAnswer reports whether the answer comes from this server, not from another process that took the port first.
func (s *Server) ownAnswer(ctx context.Context, rdb *redis.Client, p *process) bool {
	info, err := rdb.Info(ctx, "server").Result()
	if err != nil {
		return strings.HasPrefix(err.Error(), "NOPERM") // this ACL user may not use the command
	}
	return strings.Contains(info, fmt.Sprintf("process_id:%d\r\n", p.Pid))
}

func (s *Server) log() []byte {
	b, err := os.ReadFile(filepath.Join(s.dir, "redis.log"))
	if err != nil || int64(len(b)) < s.logs {
		return nil
	}
	return b[s.logs:]
}

func (s *Server) logTail() []byte {
	const most = 4096
	b := s.log()
	return b[max(0, len(b)-most):]
}

func (s *Server) portTaken() bool {
	return bytes.Contains(s.log(), []byte("Address already in use"))
}
