package redisstore

import (
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestErrorsQuoteNoData(t *testing.T) {
	t.Parallel()
	cause := errors.New("ERR unknown command 'DEL', with args beginning with: 'secret' ")
	err := failed(t.Context(), "delete", cause)
	require.EqualError(t, err, "redisstore: delete: ERR unknown command 'DEL' (rest of the text not shown)")
	require.ErrorIs(t, err, cause)
	require.NoError(t, failed(t.Context(), "set", nil))
}

// FuzzURLErrorsKeepSecrets searches the error of any URL with a password for that password.
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
