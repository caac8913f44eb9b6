package fxmodule

import (
	"errors"
	"net/url"
	"strings"

	"github.com/sealcache/sealcache/aead"
)

var errNotASource = errors.New("the value must be env:NAME, file:///path, or a path that starts with \"/\" or \".\"")

// keysetSource reads the form of Cache.Keyset: a path, file:///path or env:NAME. A path must begin with "/" or ".", so that
// a keyset or password in its place is never taken for a path, which errors name.
func keysetSource(s string) (aead.Source, error) {
	if name, ok := strings.CutPrefix(s, "env:"); ok {
		if !isVariable(name) {
			return nil, errors.New("the text after \"env:\" must be the name of a variable (letters, digits, _)")
		}
		return aead.EnvSource(name), nil
	}
	if strings.HasPrefix(s, "file:") {
		u, err := url.Parse(s)
		if err != nil || u.Path == "" || (u.Host != "" && u.Host != "localhost") || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
			return nil, errors.New("the value is not a file URL such as file:///run/secrets/keyset.json")
		}
		return aead.FileSource(u.Path), nil
	}
	if !strings.HasPrefix(s, "/") && !strings.HasPrefix(s, ".") || strings.ContainsAny(s, "\x00\n{") {
		return nil, errNotASource
	}
	return aead.FileSource(s), nil
}

// isVariable reports whether s is the name of an environment variable.
func isVariable(s string) bool {
	for i := range len(s) {
		switch b := s[i]; {
		case b >= 'a' && b <= 'z', b >= 'A' && b <= 'Z', b == '_', i > 0 && b >= '0' && b <= '9':
		default:
			return false
		}
	}
	return s != ""
}
