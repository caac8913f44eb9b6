package aead

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
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
		return nil, fmt.Errorf("aead: keyset file: %w", err)
	}
	defer file.Close()
	data, err := io.ReadAll(io.LimitReader(file, MaxKeysetBytes+1))
	if err != nil {
		return nil, fmt.Errorf("aead: keyset file: %w", err)
	}
	return data, nil
}

func (f fileSource) watchPath() string { return string(f) }

// EnvSource reads the keyset from an environment variable, which holds it as JSON, or as standard base64 of either
// form.
func EnvSource(name string) Source { return envSource(name) }

type envSource string

func (e envSource) Load(ctx context.Context) ([]byte, error) {
	if ctx.Err() != nil {
		return nil, fmt.Errorf("aead: keyset variable: %w", ended(ctx))
	}
	value, ok := os.LookupEnv(string(e))
	if !ok || value == "" {
		return nil, fmt.Errorf("aead: keyset variable %s is not set", string(e))
	}
	data := bytes.TrimSpace([]byte(value))
	if isJSON(data) {
		return data, nil
	}
	decoded, err := base64.StdEncoding.DecodeString(string(data))
	if err != nil {
		return nil, fmt.Errorf("aead: keyset variable %s holds neither JSON nor base64", string(e))
	}
	return decoded, nil
}

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

// isJSON tells Tink's two forms apart. A binary keyset begins with a protobuf tag, and none of its tags is '{'.
func isJSON(data []byte) bool {
	data = bytes.TrimLeft(data, " \t\r\n\ufeff")
	return len(data) > 0 && data[0] == '{'
}
