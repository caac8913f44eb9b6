package fxmodule

import (
	"errors"
	"strings"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/internal/keyconfig"
)

var errNotASource = errors.New("the value must be env:NAME, file:///path, or a path that starts with \"/\" or \".\"")

// keysetSource reads the form of Cache.Keyset: a path, file:///path or env:NAME. A path must begin with "/" or ".", so that
// a keyset or password in its place is never taken for a path, which errors name.
func keysetSource(s string) (aead.Source, error) {
	variable, path, err := keyconfig.Keyset(s)
	switch {
	case err != nil:
		return nil, err
	case variable != "":
		return aead.EnvSource(variable), nil
	case !strings.HasPrefix(path, "/") && !strings.HasPrefix(path, ".") || strings.ContainsAny(path, "\x00\n{"):
		return nil, errNotASource
	}
	return aead.FileSource(path), nil
}
