package aead

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"strings"
)

// MaxKeysetBytes bounds what is read from a Source: 1 MiB, several thousand keys.
const MaxKeysetBytes = 1 << 20

// Source is where a keyset is read from: FileSource, EnvSource, BytesSource, or the application's own.
type Source interface {
	// Load returns the serialized keyset as it is now, in Tink's JSON or binary form. It is called at opening, at each
	// Reload and, with WithReload, from a background goroutine, never twice at once for one Keyring. An error leaves
	// the keyset that is in service where it is. The returned bytes are the caller's own. Their number is bounded by
	// MaxKeysetBytes.
	Load(ctx context.Context) ([]byte, error)
}

// watchable is a Source in the file system whose changes can be noticed.
type watchable interface{ watchPath() string }

// FileSource reads the keyset from a file. With WithReload, a file that is replaced (by rename, or through the
// symbolic links of a Kubernetes volume) or rewritten is noticed at once.
func FileSource(path string) Source { return fileSource(path) }

type fileSource string

func (f fileSource) Load(ctx context.Context) ([]byte, error) {
	if ctx.Err() != nil {
		return nil, fmt.Errorf("aead: keyset file: %w", ended(ctx))
	}
	if f == "" {
		return nil, errors.New("aead: keyset file: empty path")
	}
	file, err := os.Open(string(f))
	if err != nil {
		return nil, fmt.Errorf("aead: keyset file: %w", pathError(err))
	}
	defer file.Close()
	data, err := io.ReadAll(io.LimitReader(file, MaxKeysetBytes+1))
	if err != nil {
		return nil, fmt.Errorf("aead: keyset file: %w", pathError(err))
	}
	return data, nil
}

func (f fileSource) watchPath() string { return string(f) }

// String names the file, unless it was given a keyset instead of a path.
func (f fileSource) String() string {
	if looksLikeKeyset(string(f)) {
		return "aead.FileSource(not a path)"
	}
	return "aead.FileSource(" + string(f) + ")"
}

// GoString is String.
func (f fileSource) GoString() string { return f.String() }

// LogValue is String.
func (f fileSource) LogValue() slog.Value { return slog.StringValue(f.String()) }

// Format is String, whatever the verb.
func (f fileSource) Format(s fmt.State, _ rune) { writeString(s, f) }

// pathError takes the path out of an error if it may be a keyset or a passphrase that was given in the place of its path.
func pathError(err error) error {
	var p *fs.PathError
	if errors.As(err, &p) && looksLikeKeyset(p.Path) {
		return p.Err
	}
	return err
}

// looksLikeKeyset tells whether what should be a path is the content of a file: JSON, lines of text, something longer
// than any path, or base64 of some length, which, taken for a path, is relative and has no dot.
func looksLikeKeyset(path string) bool {
	return len(path) > 4096 || strings.ContainsAny(path, "{\n\r\x00") ||
		len(path) >= 64 && path[0] != '/' && !strings.Contains(path, ".")
}

// EnvSource reads the keyset from an environment variable, which holds it as JSON, or as standard base64 of either
// form. It takes the variable's name, not its content.
func EnvSource(name string) Source { return envSource(name) }

type envSource string

func (e envSource) Load(ctx context.Context) ([]byte, error) {
	if ctx.Err() != nil {
		return nil, fmt.Errorf("aead: keyset variable: %w", ended(ctx))
	}
	value, ok := os.LookupEnv(string(e))
	if !ok || value == "" {
		return nil, fmt.Errorf("aead: keyset variable%s is not set", e.quoted())
	}
	data := bytes.TrimSpace([]byte(value))
	if isJSON(data) {
		return data, nil
	}
	decoded, err := base64.StdEncoding.DecodeString(string(data))
	if err != nil {
		return nil, fmt.Errorf("aead: keyset variable%s holds neither JSON nor base64", e.quoted())
	}
	return decoded, nil
}

// quoted is the name with a blank before it. What is no ordinary name of a variable may be its content, given by mistake
// as EnvSource(os.Getenv(name)), and is not quoted.
func (e envSource) quoted() string {
	const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_"
	name := string(e)
	if name == "" || len(name) > 64 || strings.Trim(name[:1], letters) != "" || strings.Trim(name, letters+"0123456789") != "" {
		return " (EnvSource was not given a variable's name: letters, digits, _)"
	}
	return " " + name
}

// String names the variable, unless it was given a keyset instead of a name.
func (e envSource) String() string { return "aead.EnvSource(" + strings.TrimSpace(e.quoted()) + ")" }

// GoString is String.
func (e envSource) GoString() string { return e.String() }

// LogValue is String.
func (e envSource) LogValue() slog.Value { return slog.StringValue(e.String()) }

// Format is String, whatever the verb.
func (e envSource) Format(s fmt.State, _ rune) { writeString(s, e) }

// BytesSource gives the keyset from memory. It copies data.
func BytesSource(data []byte) Source { return &bytesSource{bytes.Clone(data)} }

type bytesSource struct{ data []byte }

func (b *bytesSource) Load(ctx context.Context) ([]byte, error) {
	if ctx.Err() != nil {
		return nil, fmt.Errorf("aead: keyset: %w", ended(ctx))
	}
	return bytes.Clone(b.data), nil
}

// String keeps the keyset out of logs, as it may be one in clear.
func (b *bytesSource) String() string { return fmt.Sprintf("aead.BytesSource(%d bytes)", len(b.data)) }

// GoString is String.
func (b *bytesSource) GoString() string { return b.String() }

// LogValue is String.
func (b *bytesSource) LogValue() slog.Value { return slog.StringValue(b.String()) }

// Format is String, whatever the verb: %d and %x would print the bytes.
func (b *bytesSource) Format(s fmt.State, _ rune) { writeString(s, b) }

// writeString is the Format of types that hold secrets.
func writeString(s fmt.State, v fmt.Stringer) {
	_, _ = io.WriteString(s, v.String()) // a fmt.State keeps its errors to itself
}

// isJSON tells Tink's two forms apart. A binary keyset begins with a protobuf tag, and none of its tags is '{'.
func isJSON(data []byte) bool {
	data = bytes.TrimLeft(data, " \t\r\n\ufeff")
	return len(data) > 0 && data[0] == '{'
}
