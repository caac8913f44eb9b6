package redisstore

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// topology is the kind of servers that a URL's scheme names.
type topology int

const (
	single topology = iota
	socket
	sentinel
	cluster
)

func schemeOf(name string) (t topology, tls, ok bool) {
	switch name {
	case "redis":
		return single, false, true
	case "rediss":
		return single, true, true
	case "redis+unix", "unix":
		return socket, false, true
	case "redis+sentinel":
		return sentinel, false, true
	case "rediss+sentinel":
		return sentinel, true, true
	case "redis+cluster":
		return cluster, false, true
	case "rediss+cluster":
		return cluster, true, true
	}
	return 0, false, false
}

// target is a parsed URL. For a setting with the zero value, go-redis' default applies.
type target struct {
	topology topology
	tls      bool
	addrs    []string // host:port, or the path of a socket
	login    login
	db       int
	inPath   bool // the database is in the path
	master   string
	watch    login // to the sentinels

	clientName                                                string
	protocol, poolSize, minIdle, maxIdle, maxActive, redirect int
	retries                                                   *int
	poolTimeout, idleTime, lifetime, dial, read, write        time.Duration
	minBackoff, maxBackoff                                    time.Duration
	caFile, certFile, keyFile, serverName                     string
	expiration, tagsTTL                                       time.Duration
	noCombining                                               bool
	nearBytes                                                 int64
	nearStaleness                                             time.Duration
	near                                                      *NearCache // that Open has made of the two
}

// login is a user and the source of its password. At most one of the last three fields is set.
type login struct{ user, password, env, file string }

// String hides the password.
func (l login) String() string { return "redisstore.login" }

// GoString returns String.
func (l login) GoString() string { return l.String() }

// String hides the passwords.
func (t *target) String() string { return "redisstore.target" }

// GoString returns String.
func (t *target) GoString() string { return t.String() }

// parseURL parses a URL. net/url refuses lists of addresses, and its errors repeat the URL with its password. The errors of
// parseURL repeat only names of schemes and options.
func parseURL(raw string) (*target, error) {
	if raw == "" {
		return nil, errors.New("the URL is empty (is the environment variable set?)")
	}
	scheme, rest, ok := strings.Cut(raw, "://")
	if !ok {
		return nil, errors.New("the text is not a URL such as redis://localhost:6379/0")
	}
	t := &target{}
	if t.topology, t.tls, ok = schemeOf(strings.ToLower(scheme)); !ok {
		return nil, errors.New("unknown URL scheme (use \"redis\", \"rediss\", \"redis+unix\", \"redis+sentinel\" or \"redis+cluster\")")
	}
	if strings.ContainsFunc(raw, func(r rune) bool { return r <= ' ' || r == 0x7f }) {
		return nil, errors.New("the URL contains spaces or control characters (remove or percent-encode them)")
	}
	rest, query, _ := strings.Cut(rest, "?")
	authority, path, _ := strings.Cut(rest, "/")
	if strings.ContainsAny(path+query, "@#") || strings.Contains(authority, "#") {
		return nil, errors.New("the URL is malformed (percent-encode @ / ? # within its user name, password and options)")
	}
	hosts := authority
	if i := strings.LastIndexByte(authority, '@'); i >= 0 {
		hosts = authority[i+1:]
		if err := t.login.parse(authority[:i]); err != nil {
			return nil, err
		}
	}
	values, err := url.ParseQuery(query)
	if err != nil {
		return nil, errors.New("the options of the URL are not percent-encoded correctly")
	}
	if err := t.parseHosts(hosts, values["addr"]); err != nil {
		return nil, err
	}
	if err := t.parsePath(path); err != nil {
		return nil, err
	}
	if err := t.parseOptions(values); err != nil {
		return nil, err
	}
	if err := t.check(); err != nil {
		return nil, err
	}
	return t, nil
}

func (l *login) parse(info string) error {
	user, password, _ := strings.Cut(info, ":")
	var err1, err2 error
	l.user, err1 = url.PathUnescape(user)
	l.password, err2 = url.PathUnescape(password)
	if err1 != nil || err2 != nil || strings.Contains(info, "@") {
		return errors.New("the user name or password of the URL is not percent-encoded correctly (write %40 for @)")
	}
	return nil
}

func (t *target) parseHosts(list string, more []string) error {
	if t.topology == socket {
		if list != "" || len(more) > 0 {
			return errors.New("the URL of a Unix socket has a host (write redis+unix:///path/to/socket)")
		}
		return nil
	}
	hosts := slices.DeleteFunc(strings.Split(list, ","), func(h string) bool { return h == "" && (list == "" || len(more) > 0) })
	for _, m := range more {
		hosts = append(hosts, strings.Split(m, ",")...)
	}
	switch {
	case len(hosts) == 0 && t.topology == single:
		hosts = []string{"localhost"}
	case len(hosts) == 0:
		return errors.New("the URL has no host")
	case len(hosts) > 1 && t.topology == single:
		return errors.New("the URL has several hosts (use redis+sentinel:// or redis+cluster://)")
	}
	port := "6379"
	if t.topology == sentinel {
		port = "26379"
	}
	for _, h := range hosts {
		addr, err := address(h, port)
		if err != nil {
			return err
		}
		t.addrs = append(t.addrs, addr)
	}
	return nil
}

// address checks one host[:port] or [IPv6][:port].
func address(s, port string) (string, error) {
	if s == "" {
		return "", errors.New("the list of hosts in the URL has an empty element")
	}
	host := s
	if i := strings.LastIndexByte(s, ':'); i >= 0 && !strings.HasSuffix(s, "]") {
		host, port = s[:i], s[i+1:]
	}
	if inner, ok := strings.CutPrefix(host, "["); ok {
		inner, ok = strings.CutSuffix(inner, "]")
		ip, err := netip.ParseAddr(strings.ReplaceAll(inner, "%25", "%"))
		if !ok || err != nil || !ip.Is6() {
			return "", errors.New("the URL has a host in brackets that is not an IPv6 address")
		}
		host = ip.String()
	} else {
		if host == "" {
			host = "localhost"
		}
		plain := func(r rune) bool {
			return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-._", r)
		}
		if strings.ContainsFunc(host, func(r rune) bool { return !plain(r) }) {
			return "", errors.New("a host in the URL has invalid characters (IPv6 address: add brackets; password: percent-encode it)")
		}
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 || strconv.FormatUint(n, 10) != port {
		return "", errors.New("a port in the URL is not a number from 1 to 65535")
	}
	return net.JoinHostPort(host, port), nil
}

func (t *target) parsePath(path string) error {
	if t.topology == socket {
		p, err := url.PathUnescape(path)
		if err != nil || p == "" {
			return errors.New("the URL has no path to the socket, or the path is not percent-encoded correctly")
		}
		t.addrs = []string{"/" + p}
		return nil
	}
	if path == "" {
		return nil
	}
	t.inPath = true
	return database(path, &t.db)
}

func database(s string, db *int) error {
	n, err := strconv.ParseUint(s, 10, 31)
	if err != nil || strconv.FormatUint(n, 10) != s {
		return errors.New("the database in the URL is not a number such as 0")
	}
	*db = int(n)
	return nil
}

// check returns an error for options that contradict each other.
func (t *target) check() error {
	switch {
	case t.topology == cluster && t.db != 0:
		return errors.New("the URL selects a database other than 0, but a Redis Cluster has only database 0")
	case t.topology == sentinel && t.master == "":
		return errors.New("the option \"master\" is missing (give the name by which the Sentinels know the master)")
	case t.topology != sentinel && (t.master != "" || t.watch != login{}):
		return errors.New("the options \"master\" and \"sentinel_...\" need a URL that starts with redis+sentinel://")
	case t.topology != cluster && t.redirect != 0:
		return errors.New("the option \"max_redirects\" needs a URL that starts with redis+cluster://")
	case !t.tls && (t.caFile != "" || t.certFile != "" || t.keyFile != "" || t.serverName != ""):
		if t.topology == socket {
			return errors.New("a Unix socket has no TLS (remove the options \"ca_file\", \"cert_file\", \"key_file\", \"server_name\")")
		}
		return errors.New("the options \"ca_file\", \"cert_file\", \"key_file\", \"server_name\" need TLS (write \"rediss\", not \"redis\")")
	case (t.certFile == "") != (t.keyFile == ""):
		return errors.New("the options \"cert_file\" and \"key_file\" must be given together")
	}
	if err := t.checkNear(); err != nil {
		return err
	}
	if err := t.login.check(""); err != nil {
		return err
	}
	return t.watch.check("sentinel_")
}

// checkNear returns an error for a near cache with which go-redis would not cache. go-redis itself would only log a line.
func (t *target) checkNear() error {
	switch {
	case t.nearBytes == 0 && t.nearStaleness == 0:
		return nil
	case t.nearBytes == 0 || t.nearStaleness == 0:
		return errors.New("the options \"near_cache\" and \"near_cache_max_staleness\" must be given together")
	case t.topology == sentinel || t.topology == cluster:
		return errors.New("the option \"near_cache\" needs a single server, not Sentinel or Cluster")
	case t.db != 0:
		return errors.New("the option \"near_cache\" works only with database 0")
	case t.protocol == 2:
		return errors.New("the option \"near_cache\" needs the option \"protocol=3\"")
	case t.login.file != "":
		return errors.New("the options \"near_cache\" and \"password_file\" cannot be used together (use \"password_env\")")
	}
	return nil
}

func (l *login) check(prefix string) error {
	n := 0
	for _, s := range []string{l.password, l.env, l.file} {
		if s != "" {
			n++
		}
	}
	if n > 1 {
		return fmt.Errorf("the URL gives more than one password (use only the option %q)", prefix+"password_file")
	}
	return nil
}
