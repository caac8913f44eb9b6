package fxmodule

import (
	"fmt"
	"io"
	"log/slog"
	"strconv"
	"strings"
)

// String returns the names and settings of the caches. It shows only the scheme of stores and KEKs, and whether a keyset is
// a file or a variable. The rest may hold passwords, tokens and keys.
func (c Config) String() string {
	var b strings.Builder
	b.WriteString("fxmodule.Config{")
	for _, name := range c.names() {
		fmt.Fprintf(&b, "%s: %s, ", showName(name), c.Caches[name].settings())
	}
	b.WriteString("jobs: " + c.Jobs.settings())
	if c.KeyTimeout != 0 {
		fmt.Fprintf(&b, ", key_timeout: %v", c.KeyTimeout)
	}
	b.WriteString("}")
	return b.String()
}

// String returns the settings as Config.String does.
func (c Cache) String() string { return "fxmodule.Cache" + c.settings() }

// String returns the settings as Config.String does.
func (j Jobs) String() string { return "fxmodule.Jobs" + j.settings() }

func (c Cache) settings() string {
	if c.Store == "" {
		return showSettings(c, "store: the application's")
	}
	return showSettings(c)
}

func (j Jobs) settings() string { return showSettings(j) }

// showSettings shows the settings of group, after the texts in first.
func showSettings(group any, first ...string) string {
	for _, s := range settingsOf(group) {
		first = append(first, s.name+": "+s.text)
	}
	return "{" + strings.Join(first, ", ") + "}"
}

// scheme returns the scheme of a URL or URI, or nothing. A scheme is short and has only certain characters, so a
// password or key that was put there by mistake is not shown.
func scheme(uri string) string {
	s, _, ok := strings.Cut(uri, ":")
	if !ok || s == "" || len(s) > 20 {
		return ""
	}
	s = strings.ToLower(s)
	for i := range len(s) {
		switch b := s[i]; {
		case b >= 'a' && b <= 'z', i > 0 && (b == '+' || b == '-' || b == '.'):
		default:
			return ""
		}
	}
	return s
}

// showScheme shows the scheme of a URL or of a passphrase URI. In localhost:6379 or user:password the part before the colon
// is not a scheme.
func showScheme(uri string) string {
	if s := scheme(uri); s != "" && (s == "passphrase" || strings.HasPrefix(uri[len(s):], "://")) {
		return s + ":..."
	}
	return hidden
}

// showName quotes a name only if it is valid, because other text may be a secret.
func showName(s string) string {
	if checkName(s) != nil {
		return "(not a name)"
	}
	return strconv.Quote(s)
}

func showSource(s string) string {
	if strings.HasPrefix(s, "env:") {
		return "env:..."
	}
	return "file"
}

// Format prints String for every verb, including %+v, %#v and %d.
func (c Config) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, c.String()) }

// Format prints String for every verb.
func (c Cache) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, c.String()) }

// Format prints String for every verb.
func (j Jobs) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, j.String()) }

// GoString returns String.
func (c Config) GoString() string { return c.String() }

// GoString returns String.
func (c Cache) GoString() string { return c.String() }

// GoString returns String.
func (j Jobs) GoString() string { return j.String() }

// LogValue returns String.
func (c Config) LogValue() slog.Value { return slog.StringValue(c.String()) }

// LogValue returns String.
func (c Cache) LogValue() slog.Value { return slog.StringValue(c.String()) }

// LogValue returns String.
func (j Jobs) LogValue() slog.Value { return slog.StringValue(j.String()) }

// MarshalText returns String, so that JSON and YAML encoders, and a logger given a value that contains a Config, show no
// secret. The text cannot be read back.
func (c Config) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// MarshalText returns String.
func (c Cache) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// MarshalText returns String.
func (j Jobs) MarshalText() ([]byte, error) { return []byte(j.String()), nil }
