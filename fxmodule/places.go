package fxmodule

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strings"
)

// overlaps finds caches that share a store and could reach each other's entries there. Only namespaces keep them apart,
// and only if all of them have one: Clear of a cache without empties the store, and its key "s:k" is the key "k" of the
// namespace s.
func (c Config) overlaps() []error {
	names := c.names()
	places := make(map[string][]string, len(names))
	for _, name := range names {
		places[name] = placesOf(c.Caches[name].Store)
	}
	var errs []error
	for i, a := range names {
		for _, b := range names[i+1:] {
			if !slices.ContainsFunc(places[a], func(p string) bool { return slices.Contains(places[b], p) }) {
				continue
			}
			switch x, y := c.Caches[a].Namespace, c.Caches[b].Namespace; {
			case x == "" || y == "":
				without := a
				if x != "" {
					without = b
				}
				errs = append(errs, fmt.Errorf("caches %q and %q have the same store, and %q has no namespace, so that its Clear would empty both and its keys reach into the other's: give each a namespace of its own", a, b, without))
			case x == y:
				errs = append(errs, fmt.Errorf("caches %q and %q have the same store and the same namespace: each would overwrite the other's entries; give them different namespaces", a, b))
			}
		}
	}
	return errs
}

// placesOf names what a store's URL leads to, in one form for each way to write it: two URLs lead to one store if they
// have a place in common. User and options do not count; of a cluster or of sentinels every address does. What cannot be
// read is a place of its own, for stores.Open to refuse.
func placesOf(store string) []string {
	if scheme(store) == "memory" {
		return nil // each is a store of its own
	}
	kind, rest, ok := strings.Cut(store, "://")
	if !ok {
		return []string{store} // also the application's, which is no URL
	}
	rest, query, _ := strings.Cut(rest, "?")
	options, err := url.ParseQuery(query)
	if err != nil {
		return []string{store}
	}
	authority, path, _ := strings.Cut(rest, "/")
	database := options.Get("db")
	kind = strings.TrimPrefix(strings.ToLower(kind), "rediss")
	kind = strings.TrimPrefix(kind, "redis")
	port := "6379"
	switch kind {
	case "+unix", "unix":
		if unescaped, err := url.PathUnescape(path); err == nil {
			path = unescaped
		}
		return []string{"socket /" + path + " " + orZero(database)}
	case "+sentinel":
		port = "26379"
	}
	if path != "" {
		database = path
	}
	hosts := authority[strings.LastIndexByte(authority, '@')+1:]
	found := make([]string, 0, 1)
	for _, h := range append(strings.Split(hosts, ","), options["addr"]...) {
		for _, one := range strings.Split(h, ",") {
			if one == "" && (hosts == "" && len(options["addr"]) > 0) {
				continue
			}
			found = append(found, address(one, port)+" "+orZero(database)+" "+options.Get("master"))
		}
	}
	return found
}

func orZero(database string) string {
	if database == "" {
		return "0"
	}
	return database
}

// address completes host[:port] and writes it in one form.
func address(s, port string) string {
	host := s
	if h, p, err := net.SplitHostPort(s); err == nil {
		host = h
		if p != "" {
			port = p
		}
	}
	host = strings.ToLower(strings.TrimSuffix(strings.Trim(host, "[]"), "."))
	if ip, err := netip.ParseAddr(host); err == nil {
		host = ip.Unmap().String()
		if ip.IsLoopback() {
			host = ""
		}
	}
	if host == "" {
		host = "localhost"
	}
	return net.JoinHostPort(host, port)
}
