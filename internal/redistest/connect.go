package redistest

import (
	"crypto/tls"
	"net"
	"net/url"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// Addr returns host:port of the server: the TLS port if it uses TLS.
func (s *Server) Addr() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port)) }

// Socket returns the path of the unix socket. The socket never uses TLS.
func (s *Server) Socket() string { return filepath.Join(s.dir, "redis.sock") }

// Dir returns the server's directory. It holds the log, the dump, the append-only file and the certificates.
func (s *Server) Dir() string { return s.dir }

// Certificates returns the files of a server with TLS, and nil without TLS.
func (s *Server) Certificates() *Certificates { return s.certs }

// URL returns redis:// or rediss:// with user and password, and with the CA's file as an option.
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

// tlsOptions returns the options of a URL for a server with TLS, and none otherwise.
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

// patience is the timeout of clients. With the 3 s of go-redis, commands would fail on a machine that stops for that long.
const patience = 30 * time.Second

// clientOptions returns new options for a client of servers like this one at some addresses.
func (s *Server) clientOptions(addrs ...string) *redis.UniversalOptions {
	return &redis.UniversalOptions{
		Addrs:                    addrs,
		Username:                 s.opts.User,
		Password:                 s.opts.Password,
		TLSConfig:                s.TLSConfig(),
		ContextTimeoutEnabled:    true,
		DialTimeout:              patience,
		ReadTimeout:              patience,
		WriteTimeout:             patience,
		PoolTimeout:              2 * patience,
		DisableIdentity:          true,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	}
}

// ClientOptions returns new options for a go-redis client of the server. Their timeouts are longer than those of go-redis.
func (s *Server) ClientOptions() *redis.Options { return s.clientOptions(s.Addr()).Simple() }

// TLSConfig trusts the server's CA and has the client's certificate. It is nil for a server without TLS.
func (s *Server) TLSConfig() *tls.Config {
	if s.certs == nil {
		return nil
	}
	return s.certs.config.Clone()
}

// Client returns a client of the server. It is closed when the test ends.
func (s *Server) Client(t testing.TB) *redis.Client {
	t.Helper()
	rdb := redis.NewClient(s.ClientOptions())
	t.Cleanup(func() { _ = rdb.Close() })
	return rdb
}
