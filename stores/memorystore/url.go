package memorystore

import (
	"errors"
	"fmt"
	"math"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/eko/gocache/lib/v4/store"
)

// Open returns a store for a URL such as
//
//	memory://
//	memory://?max_bytes=256MiB&expiration=10m
//
// with the options
//
//	max_bytes    the limit: bytes, or a number with kB, MB, GB (powers of 1000), KiB, MiB, GiB (of 1024); at least 257
//	expiration   the lifetime of entries that are set without one, such as 90s or 24h; default none
//
// Each call returns a new store. Unknown and repeated options are errors, and so are a host and a path. An error repeats no
// part of the URL except the name of an option.
func Open(rawURL string) (*Store, error) {
	opts, err := parseURL(rawURL)
	if err != nil {
		return nil, err
	}
	return New(opts...)
}

// parseURL does not repeat the URL in its errors, because by mistake it may be that of another server, with a password.
func parseURL(rawURL string) ([]Option, error) {
	u, err := url.Parse(rawURL)
	if err != nil {
		return nil, errors.New("memorystore: open: the text is not a URL (write memory://?max_bytes=64MiB)")
	}
	if u.Scheme != "memory" {
		return nil, errors.New("memorystore: open: the URL does not start with memory://")
	}
	if u.Opaque != "" || u.Host != "" || u.User != nil || strings.Trim(u.Path, "/") != "" || u.Fragment != "" {
		return nil, errors.New("memorystore: open: the URL has a host, path or fragment (write memory://?max_bytes=64MiB)")
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return nil, errors.New("memorystore: open: the options after '?' in the URL must have the form name=value&name=value")
	}
	var opts []Option
	names := make([]string, 0, len(query))
	for name := range query {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		if len(query[name]) != 1 {
			return nil, fmt.Errorf("memorystore: open: the option %s is given %d times in the URL", quoted(name), len(query[name]))
		}
		value := query[name][0]
		switch name {
		case "max_bytes":
			n, err := parseBytes(value)
			if err != nil {
				return nil, err
			}
			opts = append(opts, WithMaxBytes(n))
		case "expiration":
			d, err := time.ParseDuration(value)
			if err != nil || d <= 0 {
				return nil, errors.New("memorystore: open: the option \"expiration\" is not a positive duration such as 90s")
			}
			opts = append(opts, WithDefaults(store.WithExpiration(d)))
		default:
			return nil, fmt.Errorf("memorystore: open: unknown option %s in the URL (allowed: \"expiration\", \"max_bytes\")", quoted(name))
		}
	}
	return opts, nil
}

// quoted returns the name of an option if it looks like one. Otherwise it may be a part of a password.
func quoted(name string) string {
	other := func(r rune) bool { return (r < 'a' || r > 'z') && r != '_' }
	if name == "" || len(name) > 32 || strings.ContainsFunc(name, other) {
		return "(name not shown)"
	}
	return strconv.Quote(name)
}

func parseBytes(s string) (int64, error) {
	digits := strings.TrimRight(s, "BGKMik")
	unit := int64(1)
	switch s[len(digits):] {
	case "", "B":
	case "kB", "KB":
		unit = 1e3
	case "MB":
		unit = 1e6
	case "GB":
		unit = 1e9
	case "KiB":
		unit = 1 << 10
	case "MiB":
		unit = 1 << 20
	case "GiB":
		unit = 1 << 30
	default:
		digits = ""
	}
	n, err := strconv.ParseUint(digits, 10, 63)
	if err != nil || n == 0 || int64(n) > math.MaxInt64/unit {
		return 0, errors.New("memorystore: open: the option \"max_bytes\" is not a positive size such as 1048576 or 64MiB")
	}
	if total := int64(n) * unit; total >= smallestEntry {
		return total, nil
	}
	return 0, fmt.Errorf("memorystore: open: the option \"max_bytes\" must be at least %d, the size of the smallest entry", smallestEntry)
}
