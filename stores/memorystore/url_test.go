package memorystore

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestOpen(t *testing.T) {
	t.Parallel()
	for url, want := range map[string]struct {
		max int64
		ttl time.Duration
	}{
		"memory:":                                {DefaultMaxBytes, 0},
		"memory://":                              {DefaultMaxBytes, 0},
		"memory:///":                             {DefaultMaxBytes, 0},
		"memory://?":                             {DefaultMaxBytes, 0},
		"memory://?max_bytes=1000":               {1000, 0},
		"memory://?max_bytes=1000B":              {1000, 0},
		"memory://?max_bytes=3kB":                {3000, 0},
		"memory://?max_bytes=64MiB":              {64 << 20, 0},
		"memory://?max_bytes=2GB":                {2e9, 0},
		"MEMORY://?max_bytes=5GiB":               {5 << 30, 0},
		"memory://?expiration=10m":               {DefaultMaxBytes, 10 * time.Minute},
		"memory://?expiration=1h&max_bytes=257B": {257, time.Hour},
	} {
		s, err := Open(url)
		require.NoError(t, err, url)
		require.Equal(t, want.max, s.MaxBytes(), url)
		require.Equal(t, want.ttl, s.defaults.Expiration, url)
		require.NoError(t, s.Close())
	}
}

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	for url, says := range map[string]string{
		"":                                    "memory://",
		"redis://user:hunter2@host":           "memory://",
		"memory://user:hunter2@/":             "has a host, path or fragment",
		"memory://host":                       "has a host, path or fragment",
		"memory:opaque":                       "has a host, path or fragment",
		"memory:///path":                      "has a host, path or fragment",
		"memory://#f":                         "has a host, path or fragment",
		"memory://hunter2:\x7f":               "not a URL",
		"memory://?max_bytes=%zz":             "must have the form name=value",
		"memory://?max_byte=1":                "allowed: \"expiration\", \"max_bytes\"",
		"memory://?MAX_BYTES=1":               "allowed: \"expiration\", \"max_bytes\"",
		"memory://?max_bytes=1&max_bytes=2":   "2 times",
		"memory://?max_bytes=":                "not a positive size",
		"memory://?max_bytes=0":               "not a positive size",
		"memory://?max_bytes=256":             "max_bytes\" must be at least 257",
		"memory://?max_bytes=-1":              "not a positive size",
		"memory://?max_bytes=1.5MiB":          "not a positive size",
		"memory://?max_bytes=1TiB":            "not a positive size",
		"memory://?max_bytes=MiB":             "not a positive size",
		"memory://?max_bytes=1Mi":             "not a positive size",
		"memory://?max_bytes=9223372036854GB": "not a positive size",
		"memory://?max_bytes=9999999999GiB":   "not a positive size",
		"memory://?expiration=":               "not a positive duration",
		"memory://?expiration=10":             "not a positive duration",
		"memory://?expiration=0s":             "not a positive duration",
		"memory://?expiration=-1s":            "not a positive duration",
		"memory://?max_bytes=hunter2":         "not a positive size",
		"memory://?expiration=hunter2":        "not a positive duration",
		"memory://?hunter2=1":                 "allowed: \"expiration\", \"max_bytes\"",
		"memory://?hunter2=1&hunter2=2":       "2 times",
	} {
		_, err := Open(url)
		require.ErrorContains(t, err, says, url)
		require.NotContains(t, err.Error(), "hunter2")
	}
}

func FuzzParseURL(f *testing.F) {
	for _, seed := range []string{"memory://?max_bytes=64MiB&expiration=10m", "memory:", "memory://?max_bytes=18446744073709551615GiB"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, url string) {
		opts, err := parseURL(url)
		if err != nil {
			return
		}
		s, err := New(opts...)
		if err != nil {
			t.Fatalf("%q was parsed into options that New refuses: %v", url, err)
		}
		_ = s.Close()
	})
}
