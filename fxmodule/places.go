package fxmodule

import (
	"maps"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strings"
)

// overlap is a pair of caches that share a store and can reach each other's entries there: only namespaces keep caches
// apart, and only if both have one. It may be meant, as where two caches differ in their codec alone, or where their keys
// differ; so it is said at start and not refused.
type overlap struct {
	a, b    string
	without string // the one that has no namespace, or empty: then both have the same
}

func (o overlap) String() string {
	if o.without == "" {
		return "two caches have the same store and the same namespace, so that each would overwrite the other's entry of the same key; give them different namespaces unless this is meant"
	}
	return "two caches have the same store and one has no namespace, so that its keys can reach into the other's, and its Clear is refused; give each a namespace of its own"
}

// overlaps finds the caches that share a store without being kept apart.
func (c Config) overlaps() []overlap {
	names := c.names()
	places := make(map[string][]string, len(names))
	for _, name := range names {
		places[name] = placesOf(c.Caches[name].Store)
	}
	var found []overlap
	for i, a := range names {
		for _, b := range names[i+1:] {
			if !slices.ContainsFunc(places[a], func(p string) bool { return slices.Contains(places[b], p) }) {
				continue
			}
			switch x, y := c.Caches[a].Namespace, c.Caches[b].Namespace; {
			case x == "":
				found = append(found, overlap{a, b, a})
			case y == "":
				found = append(found, overlap{a, b, b})
			case x == y:
				found = append(found, overlap{a, b, ""})
			}
		}
	}
	return found
}

// mustNotClear are the caches whose Clear would also empty another cache, or the queues of jobs: those without a namespace
// that share a store.
func (c Config) mustNotClear() map[string]bool {
	found := make(map[string]bool)
	for _, o := range c.overlaps() {
		for _, name := range []string{o.a, o.b} {
			if c.Caches[name].Namespace == "" {
				found[name] = true
			}
		}
	}
	for _, name := range c.Jobs.neighbours(c.Caches) {
		if c.Caches[name].Namespace == "" {
			found[name] = true
		}
	}
	return found
}

// neighbours are the caches whose store is the Redis of the jobs, in order, as far as URLs tell.
func (j Jobs) neighbours(caches map[string]Cache) []string {
	if j.Redis == "" {
		return nil
	}
	return cachesAt(placesOf(j.Redis), caches)
}

// cachesAt are the caches whose stores are in one of the places, in order.
func cachesAt(places []string, caches map[string]Cache) []string {
	var found []string
	for _, name := range slices.Sorted(maps.Keys(caches)) {
		if c := caches[name]; c.Store != "" && slices.ContainsFunc(placesOf(c.Store), func(p string) bool { return slices.Contains(places, p) }) {
			found = append(found, name)
		}
	}
	return found
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
