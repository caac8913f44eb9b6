package redisstore

import (
	"errors"
	"fmt"
	"path"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestErrorsRepeatNoData(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"ERR unknown command 'UNLINK', with args beginning with: 'secret' ":            "ERR unknown command 'UNLINK'",
		"redis: can't parse reply=\"secret\" reading string":                           "redis: can't parse",
		"redis: can't parse verbatim string reply: \"secret\"":                         "redis: can't parse",
		`strconv.Atoi: parsing "secret": invalid syntax`:                               "strconv.Atoi",
		"NOPERM User app has no permissions to access the 'secret' key":                "NOPERM this user has no permissions to access that key",
		"NOPERM this user has no permissions to run the 'flushdb' command":             "NOPERM this user has no permissions to run the 'flushdb' command",
		"WRONGTYPE Operation against a key holding the wrong kind of value":            "WRONGTYPE Operation against a key holding the wrong kind of value",
		"dial tcp 127.0.0.1:1: connect: connection refused":                            "dial tcp 127.0.0.1:1: connect: connection refused",
		"OOM command not allowed when used memory > 'maxmemory'. script: 0a1b, on x:1": "OOM command not allowed when used memory > 'maxmemory'. script: 0a1b, on x:1",
	} {
		err := failed(t.Context(), "set", errors.New(text))
		require.EqualError(t, err, "redisstore: set: "+want)
	}
	require.NoError(t, failed(t.Context(), "set", nil))
}

type reply string

func (r reply) Error() string { return string(r) }
func (reply) RedisError()     {}

func TestDenied(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]bool{
		"NOPERM this user has no permissions to run the 'info' command": true,
		"ERR unknown command 'info', with args beginning with: ":        true,
		"ERR unknown command `info`":                                    true,
		"ERR max number of clients reached":                             false,
		"WRONGPASS invalid username-password pair":                      false,
	} {
		require.Equal(t, want, denied(fmt.Errorf("wrapped: %w", reply(text))), text)
		require.False(t, denied(errors.New(text)), "not said by the server")
	}
}

// FuzzLiteral holds the escaping against path.Match, whose patterns are those of Redis except for '/' and broken UTF-8.
func FuzzLiteral(f *testing.F) {
	for _, s := range []string{"", "plain", "*", "?", "[a]", `\`, `a\*b`, "[", "]", "[^a]", "[!a]"} {
		f.Add(s, "x")
	}
	f.Fuzz(func(t *testing.T, prefix, rest string) {
		pattern := literal(prefix) + "*"
		// Nothing but escaped or ordinary bytes before the star.
		var back strings.Builder
		for i := 0; i < len(pattern)-1; i++ {
			if pattern[i] == '\\' {
				i++
			} else if strings.IndexByte(`*?[]`, pattern[i]) >= 0 {
				t.Fatalf("%q has a special byte that is not escaped", pattern)
			}
			back.WriteByte(pattern[i])
		}
		if back.String() != prefix {
			t.Fatalf("%q is read as %q", pattern, back.String())
		}
		name := prefix + rest
		if strings.Contains(name, "/") || strings.ToValidUTF8(name, "") != name {
			return
		}
		if ok, err := path.Match(pattern, name); err != nil || !ok {
			t.Fatalf("%q does not match %q: %v", pattern, name, err)
		}
	})
}

// FuzzURLErrorsKeepSecrets looks for the password in the error of any URL that has one.
func FuzzURLErrorsKeepSecrets(f *testing.F) {
	for _, s := range [][2]string{
		{"redis://u:", "@host"}, {"redis://u:", "/x@host/1"}, {"redis://u:", "?x@host"}, {"redis://u:", "#x@host"},
		{"redis://u:", "%zz@host"}, {"redis:u:", "@host"}, {"redis://", ":1"}, {"", "://host"}, {"redis://h/", ""},
		{"redis://h:", ""}, {"redis://[", "]"}, {"redis://h?", "=1"}, {"redis://h?db=", ""}, {"redis://h?expiration=", ""},
		{"redis+sentinel://h?master=m&sentinel_password=", "&sentinel_password_env=X"}, {"redis+unix://", "/x"},
	} {
		f.Add(s[0], s[1])
	}
	f.Fuzz(func(t *testing.T, before, after string) {
		const secret = "Hunter2-pass"
		if _, err := parseURL(before + secret + after); err != nil && strings.Contains(err.Error(), secret) {
			t.Fatalf("%q: %v", before+"..."+after, err)
		}
	})
}

func FuzzParseURL(f *testing.F) {
	for _, s := range []string{
		"redis://", "redis://localhost", "rediss://user:pw@host:6380/3?pool_size=3&expiration=10m",
		"redis+unix:///run/redis.sock?db=1", "unix://u:p@/a%20b",
		"redis+sentinel://u:p@a:1,b:2,[::1]:3/1?master=m&sentinel_password=x&addr=c,d",
		"rediss+cluster://a,b,c?ca_file=/x&max_redirects=8", "redis://:p%40ss@[fe80::1%25eth0]:6379",
		"redis://u:pa/ss@host", "redis://u:pa?ss@host", "redis://u:pa#ss@host", "redis://h?db=1&db=2",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		u, err := parseURL(raw)
		if err != nil {
			if u != nil {
				t.Fatal("a target beside an error")
			}
			return
		}
		if len(u.addrs) == 0 || u.db < 0 || u.topology == sentinel && u.master == "" || u.topology == cluster && u.db != 0 {
			t.Fatalf("%q gives %#v", raw, *u)
		}
		again, err := parseURL(raw)
		if err != nil || again.addrs[0] != u.addrs[0] || again.login != u.login {
			t.Fatalf("%q is read in two ways", raw)
		}
	})
}
