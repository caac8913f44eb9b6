// Package keyconfig reads two settings that package fxmodule and the command sealcache have in common. [Keyset] reads the
// place of a keyset: a file or an environment variable. [WrapContext] returns the options of an aead.Envelope for a wrap
// context (see aead.WithWrapContext). Its argument state is [Prepare], [Tolerate] or [Require]: the steps in which a
// running application begins to use the wrap context.
package keyconfig

import (
	"errors"
	"net/url"
	"strings"

	"github.com/sealcache/sealcache/aead"
)

// The states of the introduction of a wrap context.
const (
	Prepare  = "prepare"  // wrap without the context, and open data keys with and without it
	Tolerate = "tolerate" // wrap with it, and open both
	Require  = "require"  // wrap and open only with it
)

// WrapContext returns the options of an Envelope for a wrap context and its state. Another state than Prepare and Tolerate is
// Require.
func WrapContext(context map[string]string, state string) []aead.EnvelopeOption {
	switch {
	case len(context) == 0:
		return nil
	case state == Prepare:
		return []aead.EnvelopeOption{aead.WithOtherWrapContexts(context)}
	case state == Tolerate:
		return []aead.EnvelopeOption{aead.WithWrapContext(context), aead.WithOtherWrapContexts(nil)}
	}
	return []aead.EnvelopeOption{aead.WithWrapContext(context)}
}

// Keyset reads the place of a keyset: env:NAME, file:///path or a path. It returns the name of a variable, or a path. Its
// errors do not quote s, which may be a keyset that was given by mistake.
func Keyset(s string) (variable, path string, err error) {
	if name, ok := strings.CutPrefix(s, "env:"); ok {
		if !isVariable(name) {
			return "", "", errors.New("the text after \"env:\" must name a variable (letters, digits, _; no digit first)")
		}
		return name, "", nil
	}
	if !strings.HasPrefix(s, "file:") {
		return "", s, nil
	}
	u, err := url.Parse(s)
	if err != nil || u.Path == "" || (u.Host != "" && u.Host != "localhost") || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
		return "", "", errors.New("the value is not a file URL such as file:///run/secrets/keyset.json")
	}
	return "", u.Path, nil
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
