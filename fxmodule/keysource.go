package fxmodule

import (
	"errors"
	"net/url"
	"strings"

	"github.com/sealcache/sealcache/aead"
)

// keysetSource reads the form of Cache.Keyset: a path, file:///path or env:NAME.
func keysetSource(s string) (aead.Source, error) {
	if name, ok := strings.CutPrefix(s, "env:"); ok {
		if name == "" || strings.ContainsAny(name, "=\x00") {
			return nil, errors.New("env: needs the name of a variable")
		}
		return aead.EnvSource(name), nil
	}
	if strings.HasPrefix(s, "file:") {
		u, err := url.Parse(s)
		if err != nil || u.Path == "" || (u.Host != "" && u.Host != "localhost") || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
			return nil, errors.New("not a file URL such as file:///run/secrets/keyset.json")
		}
		return aead.FileSource(u.Path), nil
	}
	if strings.HasPrefix(strings.TrimSpace(s), "{") || strings.Contains(s, "://") || strings.ContainsAny(s, "\x00\n") {
		return nil, errors.New("neither the path of a file nor env:NAME")
	}
	return aead.FileSource(s), nil
}
