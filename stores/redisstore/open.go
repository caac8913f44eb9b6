package redisstore

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"strings"
	"time"

	"github.com/eko/gocache/lib/v4/store"
	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/sealcache/sealcache/internal/abandon"
	"github.com/sealcache/sealcache/internal/secretfile"
)

// Open returns a store for a URL. Close closes the store and its client. Open does not connect, so that a service can start
// before its Redis. Ping reports whether the server answers. With min_idle_conns, go-redis connects in the background; a
// failure there is not an error of Open.
//
//	redis://user:password@host:6379/0             one node; rediss:// with TLS
//	redis+unix://user:password@/run/redis.sock    one node on a unix socket, also unix://
//	redis+sentinel://user:password@host1:26379,host2:26379/0?master=name     the addresses of sentinels; rediss+sentinel://
//	redis+cluster://user:password@host1:6379,host2:6379                      some nodes of a Cluster; rediss+cluster://
//
// In user names and passwords, percent-encode all characters except letters, digits and "-._~". The path is the database,
// by default 0. Options named addr give more addresses. Each other option may be given once:
//
//	db                                  database, for URLs whose path is a socket
//	password_env, password_file         variable or file that holds the password; the file is read again for each new
//	                                    connection, so that a mounted secret can change
//	master                              the name of the master that the sentinels watch
//	sentinel_user, sentinel_password, sentinel_password_env, sentinel_password_file     credentials of the sentinels
//	                                    themselves, if they ask for any
//	ca_file                             PEM certificates to trust, instead of the system's
//	cert_file, key_file                 the client's certificate, if the server asks for one
//	server_name                         the name in the server's certificate, by default the host
//	dial_timeout, read_timeout, write_timeout     default 5s each
//	pool_size                           connections per node, default 10 per CPU, 5 in a Cluster, and up to 10 for pipelines
//	pool_timeout                        wait for one of them, default read_timeout + 1s
//	min_idle_conns, max_idle_conns      default 0, 0 for no limit
//	max_active_conns                    limit of pool_size and of all connections to a node, default 0 for none
//	conn_max_idle_time, conn_max_lifetime     default 30m, none
//	max_retries                         after a broken connection or a server that is loading, default 3, 0 for none
//	min_retry_backoff, max_retry_backoff      between those, default 10ms, 1s
//	max_redirects                       from node to node of a Cluster, default 3
//	client_name                         for CLIENT LIST
//	protocol                            RESP version 2 or 3, default 3
//	expiration                          of entries that are set without, default none
//	tags_ttl                            of tags that are set without, default 720h
//	combine                             on or off: concurrent calls share pipelines, default on
//	near_cache                          size of a near cache, such as 64MiB, default none: see NearCache
//	near_cache_max_staleness            longest time for which it serves a reply; both or neither
//
// A user without a password is a user with the ACL rule nopass.
//
// Durations have a unit. An unknown option is an error. Certificates are always verified. To connect without verification,
// pass a client to New. Deadlines of contexts bound every call. Errors of Open quote from the
// URL only names of options, paths that begin with "/" or ".", and names of variables in capital letters. Other texts may be
// misplaced passwords. Errors of calls name the server's address.
func Open(ctx context.Context, url string) (*Store, error) {
	t, client, err := connect(ctx, url, true)
	if err != nil {
		return nil, err
	}
	var defaults []store.Option
	if t.expiration > 0 {
		defaults = append(defaults, store.WithExpiration(t.expiration))
	}
	if t.tagsTTL > 0 {
		defaults = append(defaults, store.WithTagsTTL(t.tagsTTL))
	}
	s, err := NewWithConfig(client, Config{DisableCombining: t.noCombining}, defaults...)
	if err != nil {
		return nil, errors.Join(err, client.Close())
	}
	s.closes = client
	return s, nil
}

// OpenClient returns the client that Open would use. It is for code that uses the same Redis without a store, such as a migration, an audit or
// a queue. The caller closes it. Like Open it does not connect, reads the files that the URL names, and fails for the same URLs with the same
// errors. The options expiration, tags_ttl, combine and near_cache are checked and have no effect. The dynamic type is *redis.ClusterClient
// for a Cluster, and otherwise *redis.Client.
func OpenClient(ctx context.Context, url string) (redis.UniversalClient, error) {
	_, client, err := connect(ctx, url, false)
	return client, err
}

// connect returns the parsed URL and its client, with its near cache if near is true. Both are nil if there is an error.
func connect(ctx context.Context, url string, near bool) (*target, redis.UniversalClient, error) {
	if err := ctx.Err(); err != nil {
		return nil, nil, failed(ctx, "open", context.Cause(ctx))
	}
	t, err := parseURL(url)
	if err != nil {
		return nil, nil, fmt.Errorf("redisstore: open: %w", err)
	}
	if near && t.nearBytes > 0 {
		if t.near, err = NewNearCache(t.nearBytes, t.nearStaleness); err != nil {
			return nil, nil, err
		}
	}
	client, err := t.client(ctx)
	if err != nil {
		return nil, nil, fmt.Errorf("redisstore: open: %w", err)
	}
	return t, client, nil
}

// credentials returns user and password for a new connection of go-redis.
type credentials func(ctx context.Context) (user, password string, err error)

// noPassword is sent for a user with the rule nopass. The server accepts any password for such a user, and go-redis does not
// log in without one.
const noPassword = "nopass"

// resolve finds the password. prefix is the start of the names of the login's options. For a password in a file it returns a
// function that reads the file again.
func (l login) resolve(ctx context.Context, prefix string) (login, credentials, error) {
	switch {
	case l.env != "":
		l.password = os.Getenv(l.env)
		if l.password == "" {
			return l, nil, fmt.Errorf("the environment variable %s of the option %q is empty or not set", variable(l.env), prefix+"password_env")
		}
	case l.file != "":
		option := prefix + "password_file"
		read := fileReader(make(chan struct{}, fileReads))
		if _, err := passwordIn(ctx, read, option, l.file); err != nil {
			return l, nil, err
		}
		return l, func(ctx context.Context) (string, string, error) {
			password, err := passwordIn(ctx, read, option, l.file)
			return l.user, password, err
		}, nil
	case l.user != "" && l.password == "":
		l.password = noPassword
	}
	return l, nil, nil
}

// passwordIn reads a password from the file of an option, without the newline at its end.
func passwordIn(ctx context.Context, read fileReader, option, path string) (string, error) {
	const most = 64 << 10
	b, err := read.file(ctx, path, most+1)
	if err != nil {
		return "", fmt.Errorf("read the file of the option %q: %w", option, withoutPath(err))
	}
	b = bytes.TrimSuffix(bytes.TrimSuffix(b, []byte("\n")), []byte("\r"))
	switch {
	case len(b) == 0:
		return "", fmt.Errorf("the file of the option %q is empty (write the password into the file)", option)
	case len(b) > most:
		return "", fmt.Errorf("the file of the option %q is longer than %d bytes (is it the right file?)", option, most)
	}
	return string(b), nil
}

const (
	// fileTimeout bounds the reading of a file.
	fileTimeout = 10 * time.Second
	// fileReads bounds the readings of one file that were abandoned and still run, and those in progress.
	fileReads = 4
)

// errFileTimeout is the cause of a context that fileTimeout ended.
var errFileTimeout = fmt.Errorf("the file could not be read within %v (check its file system)", fileTimeout)

// fileReader bounds the readings of a file that run at a time. If its file system hangs, each one keeps a thread.
type fileReader chan struct{}

// file reads at most limit bytes, and does not wait much longer than ctx or fileTimeout last. A regular file on a mount that hangs
// cannot be interrupted, so its reading is abandoned.
func (r fileReader) file(ctx context.Context, path string, limit int64) ([]byte, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, fileTimeout, errFileTimeout)
	defer cancel()
	select {
	case r <- struct{}{}:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	discard := func(b []byte) { clear(b) }
	a, ok := abandon.Call(ctx, "redisstore: the reading of a file", func() { <-r }, discard, func() ([]byte, error) { return secretfile.Read(ctx, path, limit) })
	if !ok || errors.Is(a.Err, os.ErrDeadlineExceeded) {
		<-ctx.Done() // the deadline of the file may pass a moment earlier
		return nil, context.Cause(ctx)
	}
	return a.Out, a.Err
}

// withoutPath removes the path from an error unless it looks like one: a password may have been given in its place.
func withoutPath(err error) error {
	var e *fs.PathError
	if errors.As(err, &e) && !strings.HasPrefix(e.Path, "/") && !strings.HasPrefix(e.Path, ".") {
		return e.Err
	}
	return err
}

// variable names an environment variable, unless a password may have been given in the place of its name.
func variable(name string) string {
	if strings.IndexFunc(name, func(r rune) bool { return r != '_' && (r < 'A' || r > 'Z') && (r < '0' || r > '9') }) >= 0 {
		return "(name not shown)"
	}
	return name
}

func (t *target) tlsConfig(ctx context.Context) (*tls.Config, error) {
	if !t.tls {
		return nil, nil
	}
	cfg := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: t.serverName}
	read := fileReader(make(chan struct{}, 1))
	if t.caFile != "" {
		pem, err := read.file(ctx, t.caFile, maxPEM)
		if err != nil {
			return nil, fmt.Errorf("read the file of the option \"ca_file\": %w", withoutPath(err))
		}
		cfg.RootCAs = x509.NewCertPool()
		if !cfg.RootCAs.AppendCertsFromPEM(pem) {
			return nil, errors.New("the file of the option \"ca_file\" contains no PEM certificate")
		}
	}
	if t.certFile != "" {
		pair, err := read.keyPair(ctx, t.certFile, t.keyFile)
		if err != nil {
			return nil, fmt.Errorf("read the files of the options \"cert_file\" and \"key_file\": %w", withoutPath(err))
		}
		cfg.Certificates = []tls.Certificate{pair}
	}
	return cfg, nil
}

// maxPEM bounds the part of a PEM file that is read: 16 MiB.
const maxPEM = 16 << 20

// keyPair is tls.LoadX509KeyPair with bounded readings.
func (r fileReader) keyPair(ctx context.Context, certFile, keyFile string) (tls.Certificate, error) {
	cert, err := r.file(ctx, certFile, maxPEM)
	if err != nil {
		return tls.Certificate{}, err
	}
	key, err := r.file(ctx, keyFile, maxPEM)
	if err != nil {
		return tls.Certificate{}, err
	}
	return tls.X509KeyPair(cert, key)
}

// maxRetries returns the option of go-redis: 0 is its default, -1 means none.
func (t *target) maxRetries() int {
	switch {
	case t.retries == nil:
		return 0
	case *t.retries == 0:
		return -1
	default:
		return *t.retries
	}
}

// quiet disables the request for maintenance notifications, which open-source Redis does not support.
func quiet() *maintnotifications.Config {
	return &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
}

func (t *target) client(ctx context.Context) (redis.UniversalClient, error) {
	cfg, err := t.tlsConfig(ctx)
	if err != nil {
		return nil, err
	}
	l, ask, err := t.login.resolve(ctx, "")
	if err != nil {
		return nil, err
	}
	watch, again, err := t.watch.resolve(ctx, "sentinel_")
	if err != nil {
		return nil, err
	}
	if again != nil {
		if _, watch.password, err = again(ctx); err != nil { // go-redis asks for no other
			return nil, err
		}
	}
	poolSize, pipelinePool := t.poolSize, 0
	if t.maxActive > 0 { // calls above the size of the pool wait, but go-redis refuses those above MaxActiveConns
		perCPU := 10
		if t.topology == cluster {
			perCPU = 5
		}
		poolSize = min(cmp.Or(t.poolSize, perCPU*runtime.GOMAXPROCS(0)), t.maxActive)
		pipelinePool = -1 // MaxActiveConns does not bound the pool of pipelines, so they share the pool of other calls
	}
	o := &redis.UniversalOptions{
		Addrs: t.addrs, MasterName: t.master, SentinelUsername: watch.user, SentinelPassword: watch.password,
		Username: l.user, Password: l.password, CredentialsProviderContext: ask,
		DB: t.db, TLSConfig: cfg, ClientName: t.clientName, Protocol: t.protocol,
		ContextTimeoutEnabled: true, MaintNotificationsConfig: quiet(),
		PoolSize: poolSize, PipelinePoolSize: pipelinePool, PoolTimeout: t.poolTimeout,
		MinIdleConns: t.minIdle, MaxIdleConns: t.maxIdle, MaxActiveConns: t.maxActive,
		ConnMaxIdleTime: t.idleTime, ConnMaxLifetime: t.lifetime,
		DialTimeout: t.dial, ReadTimeout: t.read, WriteTimeout: t.write, MaxRedirects: t.redirect,
		MaxRetries: t.maxRetries(), MinRetryBackoff: t.minBackoff, MaxRetryBackoff: t.maxBackoff,
	}
	if t.near != nil {
		o.ClientSideCache = t.near
	}
	switch t.topology {
	case sentinel:
		return redis.NewFailoverClient(o.Failover()), nil
	case cluster:
		return redis.NewClusterClient(o.Cluster()), nil
	case single, socket: // the address of a socket is a path, by which go-redis knows it
		return redis.NewClient(o.Simple()), nil
	}
	return nil, errors.New("the topology of the parsed URL is unknown (report this bug)")
}
