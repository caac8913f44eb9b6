package keyconfig_test

import (
	"testing"

	"github.com/sealcache/sealcache/internal/keyconfig"
)

func TestKeyset(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]struct{ variable, path string }{
		"env:KEYSET_1":      {variable: "KEYSET_1"},
		"/run/keyset.json":  {path: "/run/keyset.json"},
		"keyset.json":       {path: "keyset.json"},
		"file:///run/k":     {path: "/run/k"},
		"file://localhost/": {path: "/"},
	} {
		variable, path, err := keyconfig.Keyset(s)
		if err != nil || variable != want.variable || path != want.path {
			t.Errorf("%s: got %q, %q, %v", s, variable, path, err)
		}
	}
	for _, s := range []string{
		"env:", "env:a-b", "env:1A", "file:", "file:relative", "file://host/k", "file:///k?reload=1s", "file:///k#x", "file://user@localhost/k", "file:///%zz",
	} {
		if variable, path, err := keyconfig.Keyset(s); err == nil {
			t.Errorf("%s was accepted: %q, %q", s, variable, path)
		}
	}
}
