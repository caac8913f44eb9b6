package redistest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
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
	"github.com/redis/go-redis/v9/maintnotifications"
)

// startTimeout bounds how long a server may take until it answers; a busy machine needs a second or two.
const startTimeout = 20 * time.Second

// portAttempts is how often a start is repeated with another port when another process took it first.
const portAttempts = 8

// Options says what a server is like. The zero value is a server without persistence, TLS or password.
type Options struct {
	// AppendOnly keeps an append-only file, synced at every write, so that what was acknowledged survives Kill.
	AppendOnly bool
	// TLS makes the port speak TLS only, with a certificate for 127.0.0.1 and localhost from a CA made for this server.
	TLS bool
	// TLSClientAuth also demands a certificate of the client, signed by the same CA. It needs TLS.
	TLSClientAuth bool
	// Password alone is the default user's password; with User it is that ACL user's, and the default user is off.
	User, Password string
	// Rules are the ACL rules of User, by default "~* &* +@all".
	Rules string
	// Args are further arguments of redis-server, such as "--maxmemory", "16mb". They win over what is set here.
	Args []string

	certs *Certificates // of servers that trust each other; nil for its own
}

// Server is one redis-server process.
type Server struct {
	opts     Options
	dir      string
	port     int
	busPort  int // of the cluster bus, 0 without
	sentinel bool
	certs    *Certificates

	mu   sync.Mutex
	proc *process // nil while it does not run
	logs int64    // length of the log when the present process started
}

type process struct {
	pid  int
	done chan struct{} // closed when the process has ended and was waited for
}

// Start starts a server with further arguments for redis-server and stops it when the test ends. It fails the test
// where that is impossible.
func Start(t testing.TB, args ...string) *Server {
	t.Helper()
	return StartWith(t, Options{Args: args})
}

// StartWith is Start with Options.
func StartWith(t testing.TB, opts Options) *Server {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*startTimeout)
	defer cancel()
	s, err := Run(ctx, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeServer(t, s) })
	return s
}

func closeServer(t testing.TB, s *Server) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Errorf("closing redis-server: %v", err)
	}
}

// Run starts a server and waits until it answers. The caller closes it. ctx bounds the start, not the server's life.
func Run(ctx context.Context, opts Options) (*Server, error) {
	return launch(ctx, opts, false, nil)
}

// launch starts a server on free ports: one with a cluster bus if cluster is set, a sentinel if conf is not nil, in
// which case conf gives the sentinel's configuration.
func launch(ctx context.Context, opts Options, cluster bool, conf func(dir string) error) (*Server, error) {
	if _, err := exec.LookPath("redis-server"); err != nil {
		return nil, errors.New("redistest: redis-server is not in the PATH (apt-get install redis-server, or brew install redis)")
	}
	dir, err := os.MkdirTemp("", "redistest")
	if err != nil {
		return nil, fmt.Errorf("redistest: temporary directory: %w", err)
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
			return fail(fmt.Errorf("redistest: sentinel configuration: %w", err))
		}
	}
	for range portAttempts {
		if s.port, err = freePort(); err != nil {
			return fail(err)
		}
		if cluster {
			if s.busPort, err = freePort(); err != nil {
				return fail(err)
			}
		}
		if err = s.start(ctx); err == nil {
			return s, nil
		}
		if !s.portTaken() {
			break
		}
	}
	return fail(err)
}

// freePort names a port that was free a moment ago.
func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("redistest: free port: %w", err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	return port, l.Close()
}

func (s *Server) writeACL() error {
	rules := s.opts.Rules
	if rules == "" {
		rules = "~* &* +@all"
	}
	// By its hash, because a plaintext password must not contain a space.
	acl := fmt.Sprintf("user default off\nuser %s on #%x %s\n", s.opts.User, sha256.Sum256([]byte(s.opts.Password)), rules)
	if err := os.WriteFile(filepath.Join(s.dir, "users.acl"), []byte(acl), 0o600); err != nil {
		return fmt.Errorf("redistest: ACL file: %w", err)
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
		"--rdbcompression", "no", // so that a search of the dump finds what is in it
		"--appendonly", map[bool]string{false: "no", true: "yes"}[s.opts.AppendOnly],
		"--appendfsync", "always",
		"--databases", "16",
	)
	if s.busPort != 0 {
		args = append(args, "--cluster-enabled", "yes", "--cluster-config-file", "nodes.conf",
			"--cluster-port", strconv.Itoa(s.busPort), "--cluster-node-timeout", "5000",
			"--cluster-allow-replica-migration", "no") // a master whose last slot moves away stays one
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
		return errors.New("redistest: the server runs already")
	}
	if st, err := os.Stat(filepath.Join(s.dir, "redis.log")); err == nil {
		s.logs = st.Size()
	}
	cmd := exec.Command("redis-server", s.arguments()...)
	cmd.SysProcAttr = dieWithParent()
	var out bytes.Buffer // what it says before its log file is open
	cmd.Stdout, cmd.Stderr = &out, &out

	started := make(chan error, 1)
	p := &process{done: make(chan struct{})}
	go func() {
		// The signal at the parent's death is bound to the thread that started the child, so that thread has to stay.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(p.done)
		err := cmd.Start()
		if err == nil {
			p.pid = cmd.Process.Pid
		}
		started <- err
		if err == nil {
			_ = cmd.Wait() // its exit status says nothing that its log does not
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
	_ = kill(p.pid)
	<-p.done
	s.proc = nil
	return fmt.Errorf("redistest: redis-server did not come up: %w\n%s%s", err, out.Bytes(), s.logTail())
}

// await returns when the server answers PING, or the process has ended, or ctx is over.
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
			return errors.New("it ended")
		case <-ctx.Done():
			return errors.Join(ctx.Err(), reply)
		case <-tick.C:
		}
	}
}

// listens keeps go-redis, which logs failed dials, quiet until there is something to dial.
func (s *Server) listens() bool {
	c, err := net.DialTimeout("tcp", s.Addr(), time.Second)
	if err != nil {
		return false
	}
	_ = c.Close()
	return true
}

// ownAnswer tells this process from a foreign server that took the port first.
func (s *Server) ownAnswer(ctx context.Context, rdb *redis.Client, p *process) bool {
	info, err := rdb.Info(ctx, "server").Result()
	if err != nil {
		return strings.HasPrefix(err.Error(), "NOPERM") // an ACL user that may not ask
	}
	return strings.Contains(info, fmt.Sprintf("process_id:%d\r\n", p.pid))
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

// Addr is host:port of the server, the TLS port if it speaks TLS.
func (s *Server) Addr() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port)) }

// Socket is the path of the unix socket. It speaks no TLS, whatever the port does.
func (s *Server) Socket() string { return filepath.Join(s.dir, "redis.sock") }

// Dir is the server's directory: its log, dump, append-only file, certificates.
func (s *Server) Dir() string { return s.dir }

// Certificates are the files of a server with TLS, and nil without.
func (s *Server) Certificates() *Certificates { return s.certs }

// URL names the server with its user and password, as redis:// or rediss://, with the CA's file as an option.
func (s *Server) URL() string {
	u := url.URL{Scheme: "redis", Host: s.Addr(), Path: "/0"}
	if s.opts.Password != "" {
		u.User = url.UserPassword(s.opts.User, s.opts.Password)
	}
	if s.opts.TLS {
		u.Scheme, u.RawQuery = "rediss", s.tlsOptions().Encode()
	}
	return u.String()
}

// tlsOptions are the options of a URL for a server that speaks TLS, and none for others.
func (s *Server) tlsOptions() url.Values {
	q := url.Values{}
	if s.opts.TLS {
		q.Set("ca_file", s.certs.CAFile)
		if s.opts.TLSClientAuth {
			q.Set("cert_file", s.certs.ClientCertFile)
			q.Set("key_file", s.certs.ClientKeyFile)
		}
	}
	return q
}

// ClientOptions are what a go-redis client needs to reach the server; the caller may change them.
func (s *Server) ClientOptions() *redis.Options {
	opts := &redis.Options{
		Addr:                     s.Addr(),
		Username:                 s.opts.User,
		Password:                 s.opts.Password,
		ContextTimeoutEnabled:    true,
		DisableIdentity:          true,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	}
	if s.opts.TLS {
		opts.TLSConfig = s.TLSConfig()
	}
	return opts
}

// TLSConfig trusts the server's CA and shows the client's certificate. It is nil for a server without TLS.
func (s *Server) TLSConfig() *tls.Config {
	if s.certs == nil {
		return nil
	}
	return s.certs.config.Clone()
}

// Client is a client of the server that is closed when the test ends.
func (s *Server) Client(t testing.TB) *redis.Client {
	t.Helper()
	rdb := redis.NewClient(s.ClientOptions())
	t.Cleanup(func() { _ = rdb.Close() })
	return rdb
}

// Pid is the process id, 0 while the server is down.
func (s *Server) Pid() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.proc == nil {
		return 0
	}
	return s.proc.pid
}

// end sends the process a signal and waits until it is gone.
func (s *Server) end(signal func(pid int) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.proc == nil {
		return nil
	}
	select {
	case <-s.proc.done:
	default:
		if err := signal(s.proc.pid); err != nil {
			select {
			case <-s.proc.done: // it ended by itself a moment ago
			default:
				return fmt.Errorf("redistest: signal redis-server: %w", err)
			}
		}
		select {
		case <-s.proc.done:
		case <-time.After(startTimeout): // it does not listen to TERM while it is paused
			_ = kill(s.proc.pid)
			<-s.proc.done
		}
	}
	s.proc = nil
	return nil
}

// Kill ends the server as a crash does (SIGKILL); what it had not written to disk is lost.
func (s *Server) Kill() error { return s.end(kill) }

// Stop ends the server in good order (SIGTERM).
func (s *Server) Stop() error { return s.end(terminate) }

// Restart ends the server if it still runs (as Stop does) and starts it on the same port and directory. It comes back
// with what its dump or append-only file holds: nothing, unless AppendOnly is set or DumpFiles was called.
func (s *Server) Restart() error {
	if err := s.Stop(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	var err error
	for range portAttempts { // a connection of the old process may hold the port for a moment
		if err = s.start(ctx); err == nil || !s.portTaken() {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(50 * time.Millisecond):
		}
	}
	return err
}

// Pause freezes the process (SIGSTOP): connections stay open and nothing answers, as behind a broken network.
func (s *Server) Pause() error { return s.signal(pause) }

// Resume wakes what Pause froze.
func (s *Server) Resume() error { return s.signal(resume) }

func (s *Server) signal(f func(pid int) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.proc == nil {
		return errors.New("redistest: the server does not run")
	}
	return f(s.proc.pid)
}

// Close kills the server and removes its directory. A second Close does nothing.
func (s *Server) Close() error {
	err := s.Kill()
	return errors.Join(err, os.RemoveAll(s.dir))
}

// DumpFiles makes the server write its dump and returns everything that it keeps on disk for its data, by file name
// below Dir: the RDB dump, and the append-only files if there are any. Dumps are not compressed, so that values of more
// than a few bytes can be searched for as they are; strings that look like small integers are stored as integers.
func (s *Server) DumpFiles(t testing.TB) map[string][]byte {
	t.Helper()
	rdb := redis.NewClient(s.ClientOptions())
	defer func() { _ = rdb.Close() }()
	if err := rdb.Save(context.Background()).Err(); err != nil {
		t.Fatalf("SAVE: %v", err)
	}
	files := make(map[string][]byte)
	for _, pattern := range []string{"dump.rdb", "appendonlydir/*", "*.aof"} {
		paths, err := filepath.Glob(filepath.Join(s.dir, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range paths {
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			rel, err := filepath.Rel(s.dir, path)
			if err != nil {
				t.Fatal(err)
			}
			files[rel] = b
		}
	}
	return files
}
