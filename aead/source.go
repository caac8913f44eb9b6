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
	"runtime"
	"strings"
	"time"

	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/sealcache/sealcache/aead/internal/cleartext"
	"github.com/sealcache/sealcache/internal/errtext"
	"github.com/sealcache/sealcache/internal/nilcheck"
	"github.com/sealcache/sealcache/internal/secretfile"
)

// MaxKeysetBytes bounds what is read from a Source: 1 MiB, several thousand keys.
const MaxKeysetBytes = 1 << 20

const (
	// sourceTimeout bounds each reading of a Source, also where the caller's context has no deadline.
	sourceTimeout = backgroundTimeout
	// sourceParallel bounds the readings of one Source that were abandoned and still run, and the one in progress.
	sourceParallel = 4
)

// fileReads bounds the files that are read at a time, and the readings of one path. If a file system hangs, each reading keeps a
// thread. The files of many tenants may be on it, and Go ends a process with ten thousand threads.
var fileReads = namedSlots{each: sourceParallel, all: make(chan struct{}, 4096)} //nolint:gochecknoglobals // threads are global, too

var errSourceNoAnswer = fmt.Errorf("the file or Source could not be read within %v (check its file system or service)", sourceTimeout)

var errNotRegular = errors.New("the path is not that of a regular file")

// Source is where a keyset is read from: FileSource, EnvSource, BytesSource, or the application's own.
type Source interface {
	// Load returns the serialized keyset as it is now, in Tink's JSON or binary form. It is called when the keyset is
	// opened, at each Reload and, with WithReload, from a background goroutine. An error leaves the present keyset in
	// service. The caller owns the returned bytes; more than MaxKeysetBytes are an error.
	//
	// A call that has not returned when ctx ends, or after 10 seconds, is abandoned. Load may then be called again
	// while the first call still runs. Otherwise calls for one Keyring never overlap.
	Load(ctx context.Context) ([]byte, error)
}

// watchable is a Source in the file system whose changes can be noticed.
type watchable interface{ watchPath() string }

// sourceReader reads a Source and never waits longer than its context allows.
type sourceReader struct {
	src   Source
	slots chan struct{}
}

func newSourceReader(src Source) *sourceReader {
	return &sourceReader{src: src, slots: make(chan struct{}, sourceParallel)}
}

// load returns a serialized keyset of bounded size.
func (r *sourceReader) load(ctx context.Context) ([]byte, error) {
	if nilcheck.IsNil(r.src) {
		return nil, errors.New("aead: read keyset: the source is nil")
	}
	data, err := abandonable(ctx, r.slots, r.src.Load)
	if err != nil {
		if err = errtext.Guard(err); strings.HasPrefix(err.Error(), "aead: ") {
			return nil, err
		}
		return nil, fmt.Errorf("aead: read keyset: %w", err)
	}
	if len(data) == 0 {
		return nil, errors.New("aead: read keyset: the keyset is empty (its file, variable or other source holds no bytes)")
	}
	if len(data) > MaxKeysetBytes {
		return nil, fmt.Errorf("aead: read keyset: the keyset has more than %d bytes", MaxKeysetBytes)
	}
	return data, nil
}

// abandonable calls read and returns when it does, or when ctx or sourceTimeout ends. If a file is on a hung mount, or
// another Source ignores its context, it keeps a goroutine and one of the slots. No caller waits for it.
func abandonable(ctx context.Context, slots chan struct{}, read func(context.Context) ([]byte, error)) ([]byte, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, sourceTimeout, errSourceNoAnswer)
	defer cancel()
	if err := take(ctx, slots); err != nil {
		return nil, fmt.Errorf("aead: read keyset: %w", err)
	}
	return callForeign(ctx, "aead: read keyset: the Load method of the Source", releaser(slots), func() ([]byte, error) { return read(ctx) })
}

// FileSource reads the keyset from a file. A named pipe must have been opened by its writer. OpenKeyring notices at once a
// file that is replaced (by rename, or through the symbolic links of a Kubernetes volume) or rewritten, unless WithoutReload is
// given. It reads another path than that of a regular file once, unless WithReload is given.
func FileSource(path string) Source { return fileSource(path) }

type fileSource string

func (f fileSource) Load(ctx context.Context) ([]byte, error) {
	if f == "" {
		return nil, errors.New("aead: keyset file: the path is empty (if an environment variable holds it, set that variable)")
	}
	data, err := readFile(ctx, string(f), MaxKeysetBytes+1)
	if err != nil {
		return nil, within("keyset file", err)
	}
	return data, nil
}

func (f fileSource) watchPath() string { return string(f) }

// readFile is secretfile.Read within the bounds of fileReads. Its error does not quote a path that may be a keyset.
func readFile(ctx context.Context, path string, limit int64) ([]byte, error) {
	if ctx.Err() != nil {
		return nil, ended(ctx)
	}
	release, err := fileReads.take(ctx, path)
	if err != nil {
		return nil, fmt.Errorf("too many file reads have not ended (if a file system hung, restart the process): %w", ended(ctx))
	}
	defer release()
	data, err := secretfile.Read(ctx, path, limit)
	if err != nil {
		return nil, pathError(err)
	}
	return data, nil
}

// readSecretFile reads a file that holds a secret in plaintext, and warns if other users can read or change it.
func readSecretFile(ctx context.Context, path string, limit int64, log *slog.Logger) ([]byte, error) {
	data, err := abandonable(ctx, make(chan struct{}, 1), func(ctx context.Context) ([]byte, error) {
		data, err := readFile(ctx, path, limit)
		if err == nil {
			warnOfMode(ctx, path, log)
		}
		return data, err
	})
	if err != nil {
		return nil, fmt.Errorf("read the passphrase file: %w", err)
	}
	return data, nil
}

// warnOfKeysetFile is warnOfMode for the file of a keyset in plaintext. It does nothing for a sealed keyset or another source.
// It does not wait for a file system that hangs.
func warnOfKeysetFile(ctx context.Context, src Source, kek tink.AEADWithContext, log *slog.Logger) {
	file, ok := src.(fileSource)
	if !ok || !isCleartext(kek) {
		return
	}
	_, _ = abandonable(ctx, make(chan struct{}, 1), func(ctx context.Context) ([]byte, error) {
		release, err := fileReads.take(ctx, string(file))
		if err != nil {
			return nil, err
		}
		defer release()
		warnOfMode(ctx, string(file), log)
		return nil, nil
	})
}

// defaultReload returns how often a source is read again without an option; 0 is never. A named pipe cannot be read twice. If
// the path cannot be looked up now, for example because it is being replaced, the file is read again.
func defaultReload(ctx context.Context, src Source) time.Duration {
	file, ok := src.(fileSource)
	if !ok {
		return 0
	}
	_, err := abandonable(ctx, make(chan struct{}, 1), func(ctx context.Context) ([]byte, error) {
		release, err := fileReads.take(ctx, string(file))
		if err != nil {
			return nil, err
		}
		defer release()
		if info, err := os.Stat(string(file)); err == nil && !info.Mode().IsRegular() {
			return nil, errNotRegular
		}
		return nil, nil
	})
	if errors.Is(err, errNotRegular) {
		return 0
	}
	return fileReload
}

func isCleartext(kek tink.AEADWithContext) bool {
	_, ok := kek.(cleartext.KEK)
	return ok
}

// warnOfMode warns if a file with key material in plaintext can be read by all users, or changed by others.
func warnOfMode(ctx context.Context, path string, log *slog.Logger) {
	info, err := os.Stat(path)
	if err != nil || runtime.GOOS == "windows" || !info.Mode().IsRegular() {
		return
	}
	if mode := info.Mode().Perm(); mode&0o026 != 0 {
		log.WarnContext(ctx, "sealcache: other users can read or change a file with a plaintext key or passphrase (set its mode to 0600)",
			"path", path, "mode", mode.String())
	}
}

// String names the file, unless it was given a keyset instead of a path.
func (f fileSource) String() string {
	if looksLikeKeyset(string(f)) {
		return "aead.FileSource(not a path)"
	}
	return "aead.FileSource(" + string(f) + ")"
}

// GoString returns String.
func (f fileSource) GoString() string { return f.String() }

// LogValue returns String.
func (f fileSource) LogValue() slog.Value { return slog.StringValue(f.String()) }

// Format writes String, for every verb.
func (f fileSource) Format(s fmt.State, _ rune) { writeString(s, f) }

// pathError removes the path from an error if it may be a keyset or passphrase that was given instead of its path.
func pathError(err error) error {
	var p *fs.PathError
	if errors.As(err, &p) && looksLikeKeyset(p.Path) {
		return p.Err
	}
	return err
}

// looksLikeKeyset reports whether a path may be the content of a file instead: JSON, several lines, a text
// longer than any path, or long base64. As a path, base64 would be relative and without a dot.
func looksLikeKeyset(path string) bool {
	return len(path) > 4096 || strings.ContainsAny(path, "{\n\r\x00") ||
		len(path) >= 64 && path[0] != '/' && !strings.Contains(path, ".")
}

// EnvSource reads the keyset from the environment variable of that name. The variable holds JSON, or standard base64 of
// either form.
func EnvSource(name string) Source { return envSource(name) }

type envSource string

func (e envSource) Load(ctx context.Context) ([]byte, error) {
	if ctx.Err() != nil {
		return nil, fmt.Errorf("aead: read the environment variable of the keyset: %w", ended(ctx))
	}
	value, ok := os.LookupEnv(string(e))
	if !ok || value == "" {
		return nil, fmt.Errorf("aead: keyset: the environment variable %s is empty or not set", e.quoted())
	}
	data := bytes.TrimSpace([]byte(value))
	if cleartext.IsJSON(data) {
		return data, nil
	}
	decoded, err := base64.StdEncoding.DecodeString(string(data))
	if err != nil {
		return nil, fmt.Errorf("aead: keyset: the environment variable %s holds neither JSON nor base64", e.quoted())
	}
	return decoded, nil
}

// quoted returns the name. Text that is not an ordinary variable name may be the content, given by mistake
// as EnvSource(os.Getenv(name)), and is not quoted.
func (e envSource) quoted() string {
	const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_"
	name := string(e)
	if name == "" || len(name) > 64 || strings.Trim(name[:1], letters) != "" || strings.Trim(name, letters+"0123456789") != "" {
		return "(name not shown: use letters, digits, _)"
	}
	return name
}

// String names the variable, unless it was given a keyset instead of a name.
func (e envSource) String() string { return "aead.EnvSource(" + e.quoted() + ")" }

// GoString returns String.
func (e envSource) GoString() string { return e.String() }

// LogValue returns String.
func (e envSource) LogValue() slog.Value { return slog.StringValue(e.String()) }

// Format writes String, for every verb.
func (e envSource) Format(s fmt.State, _ rune) { writeString(s, e) }

// BytesSource returns a Source in memory. It copies data.
func BytesSource(data []byte) Source {
	return &bytesSource{described(fmt.Sprintf("aead.BytesSource(%d bytes)", len(data))), bytes.Clone(data)}
}

type bytesSource struct {
	described // the keyset may be in plaintext
	data      []byte
}

func (b *bytesSource) Load(ctx context.Context) ([]byte, error) {
	if ctx.Err() != nil {
		return nil, fmt.Errorf("aead: read keyset: %w", ended(ctx))
	}
	return bytes.Clone(b.data), nil
}

// described is the text of a value that embeds it, for package fmt and log/slog. They would print the fields, which may be keys.
type described string

func (d described) String() string             { return string(d) }
func (d described) GoString() string           { return string(d) }
func (d described) LogValue() slog.Value       { return slog.StringValue(string(d)) }
func (d described) Format(s fmt.State, _ rune) { writeString(s, d) } // for every verb

// writeString implements Format for types that hold secrets.
func writeString(s fmt.State, v fmt.Stringer) {
	_, _ = io.WriteString(s, v.String()) // fmt.State reports no errors
}
