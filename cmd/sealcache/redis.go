package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"os"
	"slices"
	"strings"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/sealcache/sealcache/stores/redisstore"
)

type silent struct{}

func (silent) Printf(context.Context, string, ...any) {}

// silenceRedis keeps go-redis from writing to the terminal what errors say anyway.
func silenceRedis() { redis.SetLogger(silent{}) }

func (f *flags) redis() *string {
	return f.env("redis", "SEALCACHE_STORE", "`URL` of Redis, as the application's: redis://, rediss://, redis+sentinel://, redis+cluster://; "+
		"its password is better named by the option password_env or password_file than in a command line")
}

// openRedis makes a client for a URL of redisstore.Open, which has checked it when its options are taken over here: what
// is unknown or contradictory does not come this far. A tool has no use for some of them (pool sizes, defaults of Set).
func openRedis(ctx context.Context, raw string) (redis.UniversalClient, error) {
	if raw == "" {
		return nil, wrong("-redis is missing")
	}
	checked, err := redisstore.Open(ctx, raw)
	if err != nil {
		return nil, wrong("%v", err)
	}
	_ = checked.Close() //nolint:contextcheck // closing takes none
	t, err := targetOf(raw)
	if err != nil {
		return nil, err
	}
	client, err := t.client()
	if err != nil {
		return nil, err
	}
	if err := client.Ping(ctx).Err(); err != nil {
		_ = client.Close()
		return nil, fmt.Errorf("redis does not answer: %w", err)
	}
	return client, nil
}

// target is what such a URL says, after redisstore has accepted it.
type target struct {
	scheme  string
	addrs   []string
	user    string
	pass    string
	path    string
	options url.Values
}

func targetOf(raw string) (*target, error) {
	scheme, rest, _ := strings.Cut(raw, "://")
	rest, query, _ := strings.Cut(rest, "?")
	authority, path, _ := strings.Cut(rest, "/")
	t := &target{scheme: strings.ToLower(scheme)}
	hosts := authority
	if i := strings.LastIndexByte(authority, '@'); i >= 0 {
		hosts = authority[i+1:]
		user, pass, _ := strings.Cut(authority[:i], ":")
		var err1, err2 error
		t.user, err1 = url.PathUnescape(user)
		t.pass, err2 = url.PathUnescape(pass)
		if err1 != nil || err2 != nil {
			return nil, errors.New("the user name or password in -redis is not percent-encoded correctly")
		}
	}
	var err1, err2 error
	t.options, err1 = url.ParseQuery(query)
	t.path, err2 = url.PathUnescape(path)
	if err1 != nil || err2 != nil {
		return nil, errors.New("-redis is not percent-encoded correctly")
	}
	port := "6379"
	if strings.HasSuffix(t.scheme, "+sentinel") {
		port = "26379"
	}
	all := strings.Split(hosts, ",")
	for _, more := range t.options["addr"] {
		all = append(all, strings.Split(more, ",")...)
	}
	for _, host := range slices.DeleteFunc(all, func(h string) bool { return h == "" }) {
		if i := strings.LastIndexByte(host, ':'); i < 0 || strings.HasSuffix(host, "]") {
			host += ":" + port
		}
		t.addrs = append(t.addrs, host)
	}
	if len(t.addrs) == 0 {
		t.addrs = []string{"localhost:" + port}
	}
	return t, nil
}

// String hides the password.
func (t *target) String() string { return "target" }

// GoString is String.
func (t *target) GoString() string { return t.String() }

// password is the one that is named in one of three ways.
func (t *target) password(prefix, given string) (string, error) {
	switch {
	case t.options.Get(prefix+"password_env") != "":
		return os.Getenv(t.options.Get(prefix + "password_env")), nil
	case t.options.Get(prefix+"password_file") != "":
		b, err := os.ReadFile(t.options.Get(prefix + "password_file"))
		if err != nil {
			return "", fmt.Errorf("password file: %w", err)
		}
		return strings.TrimSuffix(strings.TrimSuffix(string(b), "\n"), "\r"), nil
	default:
		return given, nil
	}
}

func (t *target) tls() (*tls.Config, error) {
	if !strings.HasPrefix(t.scheme, "rediss") {
		return nil, nil
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: t.options.Get("server_name")}
	if file := t.options.Get("ca_file"); file != "" {
		pem, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("ca_file: %w", err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, errors.New("ca_file holds no PEM certificate")
		}
	}
	if file := t.options.Get("cert_file"); file != "" {
		pair, err := tls.LoadX509KeyPair(file, t.options.Get("key_file"))
		if err != nil {
			return nil, fmt.Errorf("cert_file and key_file: %w", err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c, nil
}

func (t *target) client() (redis.UniversalClient, error) {
	pass, err := t.password("", t.pass)
	if err != nil {
		return nil, err
	}
	sentinelPass, err := t.password("sentinel_", t.options.Get("sentinel_password"))
	if err != nil {
		return nil, err
	}
	config, err := t.tls()
	if err != nil {
		return nil, err
	}
	db := 0
	socket := t.scheme == "unix" || t.scheme == "redis+unix"
	number := t.options.Get("db")
	if number == "" && !socket {
		number = t.path
	}
	if number != "" {
		if _, err := fmt.Sscanf(number, "%d", &db); err != nil {
			return nil, errors.New("the database in -redis is not a number")
		}
	}
	quiet := &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	switch {
	case strings.HasSuffix(t.scheme, "+sentinel"):
		return redis.NewFailoverClient(&redis.FailoverOptions{
			MasterName: t.options.Get("master"), SentinelAddrs: t.addrs,
			SentinelUsername: t.options.Get("sentinel_user"), SentinelPassword: sentinelPass,
			Username: t.user, Password: pass, DB: db, TLSConfig: config, ContextTimeoutEnabled: true,
		}), nil
	case strings.HasSuffix(t.scheme, "+cluster"):
		return redis.NewClusterClient(&redis.ClusterOptions{
			Addrs: t.addrs, Username: t.user, Password: pass, TLSConfig: config, ContextTimeoutEnabled: true,
			MaintNotificationsConfig: quiet,
		}), nil
	default:
		o := &redis.Options{
			Network: "tcp", Addr: t.addrs[0], Username: t.user, Password: pass, DB: db, TLSConfig: config,
			ContextTimeoutEnabled: true, MaintNotificationsConfig: quiet,
		}
		if socket {
			o.Network, o.Addr = "unix", "/"+t.path
		}
		return redis.NewClient(o), nil
	}
}
