package main

import (
	"strings"

	"github.com/sealcache/sealcache/middleware/migrate"
)

// scopeFlags select entries. --prefix and --exclude are keys as the application gives them, without the namespace, or with
// --stored names as Redis has them.
type scopeFlags struct {
	f                 *flags
	namespace, prefix string
	exclude           list
	all, stored       bool
}

func (s *scopeFlags) declare(f *flags) {
	s.f = f
	f.env(&s.namespace, "namespace", "SEALCACHE_NAMESPACE", "`NAMESPACE` of the application's cache; '' for none")
	f.StringVar(&s.prefix, "prefix", "", "only cache keys that start with this `TEXT`, as the application gives them")
	f.BoolVar(&s.all, "all", false, "the whole database")
	f.Var(&s.exclude, "exclude", "skip cache keys that start with this `TEXT`, as the application gives them; may be repeated")
	f.BoolVar(&s.stored, "stored", false, "--prefix and --exclude are names as Redis has them, with the namespace")
	f.need("namespace", "prefix", "all")
}

// start returns the start of the stored names of a namespace.
func start(namespace string) string {
	if namespace == "" {
		return ""
	}
	return namespace + ":"
}

// space returns the scope.
func (s *scopeFlags) space() (migrate.Space, error) {
	switch {
	case s.all && s.namespace != "":
		return migrate.Space{}, wrong("--all cannot be used with --namespace%s", s.f.namespaceSource())
	case s.all && s.prefix != "":
		return migrate.Space{}, wrong("--all cannot be used with --prefix")
	}
	prefix, err := s.key("prefix", s.prefix)
	return migrate.Space{Namespace: s.namespace, Prefix: prefix}, err
}

// key returns the application's key, or the beginning of it, that a flag gives.
func (s *scopeFlags) key(flag, text string) (string, error) {
	return keyIn(s.namespace, s.f.namespaceSource(), s.stored, flag, text)
}

// keyIn is key for a namespace that came from source.
func keyIn(namespace, source string, stored bool, flag, text string) (string, error) {
	within := start(namespace)
	rest, has := strings.CutPrefix(text, within)
	switch {
	case text == "" || within == "":
		return text, nil
	case stored && !has:
		return "", wrong("--%s: with --stored, names start with the namespace, %q (add it, or leave out --stored)", flag, within)
	case stored:
		return rest, nil
	case has:
		return "", wrong("--%s: leave out %q at the start, because the namespace%s adds it (or keep it, and add --stored)", flag, within, source)
	default:
		return text, nil
	}
}

// list returns the beginnings of keys that a flag gives. The library refuses those that cannot match.
func (s *scopeFlags) list(flag string, given []string) ([]string, error) {
	var keys []string
	for _, e := range given {
		key, err := s.key(flag, e)
		if err != nil {
			return nil, err
		}
		keys = append(keys, key)
	}
	return keys, nil
}
