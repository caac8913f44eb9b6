package audit

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/internal/rediscmd"
	"github.com/sealcache/sealcache/internal/rediserr"
	"github.com/sealcache/sealcache/middleware"
	"github.com/sealcache/sealcache/middleware/internal/cachevalue"
	"github.com/sealcache/sealcache/middleware/internal/content"
	"github.com/sealcache/sealcache/middleware/internal/rediswalk"
	"github.com/sealcache/sealcache/middleware/internal/wire"
)

// ErrNoEntry reports that Redis holds nothing under a name.
var ErrNoEntry = errors.New("audit: no entry in Redis has this name")

// ErrExpired reports a value whose sealed expiry has passed. The application treats it as absent.
var ErrExpired = errors.New("audit: the value has expired (the expiry time is sealed in it)")

// Entry describes one entry without any key. It does not hold the name or the value.
type Entry struct {
	// Type is the type in Redis. A cache writes "string" only.
	Type string `json:"type"`
	// TTL is how long the entry still lives, at most 292 years, and 0 for no expiry.
	TTL time.Duration `json:"-"` // ttl_seconds in JSON
	// Bytes is the size of a string.
	Bytes int64 `json:"bytes"`
	// Form is "sealed", "plaintext", "fernet", "unknown format", or "other" for entries that are not strings.
	Form string `json:"form"`
	// Key names the key of a sealed value, as KeyUse.Key does.
	Key string `json:"key_name,omitempty"`
	// Info is the header of a sealed value.
	Info *middleware.Info `json:"info,omitempty"`
}

// MarshalJSON adds TTL in seconds.
func (e Entry) MarshalJSON() ([]byte, error) {
	type fields Entry
	return json.Marshal(struct {
		fields
		TTL float64 `json:"ttl_seconds"`
	}{fields(e), e.TTL.Seconds()})
}

// Inspect describes the entry of a stored name, with its namespace. It needs no key. A missing entry is ErrNoEntry.
func Inspect(ctx context.Context, client redis.UniversalClient, name string) (*Entry, error) {
	s, err := rediswalk.New(client)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	kinds, err := s.Kinds(ctx, []string{name})
	if err != nil {
		return nil, readError(s, err)
	}
	e := &Entry{Type: kinds[0], Form: "other"}
	if e.Type == "none" {
		return nil, ErrNoEntry
	}
	var b []byte
	if e.Type == "string" {
		if b, err = peek(ctx, s, e, name); err != nil {
			return nil, err
		}
	}
	if e.TTL, err = ttl(ctx, s, name); err != nil { // it may be gone by now
		return nil, err
	}
	if e.Type != "string" {
		return e, nil
	}
	info, err := middleware.Inspect(b)
	_, n, cached := cachevalue.Header(b)
	switch {
	case cached && !cachevalue.Plausible(b[n:], e.Bytes-int64(n)): // plaintext behind a planted header
		e.Form = "unknown format"
	case err == nil:
		info.StoredBytes, info.CiphertextBytes = int(e.Bytes), int(e.Bytes)-info.HeaderBytes
		e.Form, e.Info = "sealed", &info
		e.Key = wire.KeyOf(b[info.HeaderBytes:]).String()
	case errors.Is(err, wire.ErrUnsupportedFormat):
		e.Form = "unknown format"
	case cachevalue.IsFernet(b):
		e.Form = "fernet"
	default:
		e.Form = "plaintext"
	}
	return e, nil
}

// peek returns the start of a string, with its header and its key. It sets the size of the entry. An attacker may have planted a huge
// entry, so the rest is not read.
func peek(ctx context.Context, s *rediswalk.Servers, e *Entry, name string) ([]byte, error) {
	var size *redis.IntCmd
	var start *redis.StringCmd
	err := s.Pipelined(ctx, func(p redis.Pipeliner) {
		size, start = p.StrLen(ctx, name), p.GetRange(ctx, name, 0, maxPeeked-1)
	})
	if err = cmp.Or(err, size.Err(), start.Err()); err != nil {
		return nil, readError(s, err)
	}
	e.Bytes = max(size.Val(), int64(len(start.Val()))) // it may grow between the two
	return []byte(start.Val()), nil
}

// readError is the error of reading an entry. One node of a Cluster refuses the entries of other nodes. A client of the Cluster
// may get the same reply while slots move.
func readError(s *rediswalk.Servers, err error) error {
	if !s.Clustered() && rediserr.Code(err) == "MOVED" {
		return fmt.Errorf("%w: %w", ErrConfig, ErrClusterNode)
	}
	return fmt.Errorf("audit: read the entry: %w", rediserr.Wrap(err))
}

func ttl(ctx context.Context, s *rediswalk.Servers, name string) (time.Duration, error) {
	left, err := s.Client.Do(ctx, "pttl", name).Int64()
	switch {
	case err != nil:
		return 0, readError(s, err)
	case left == -2:
		return 0, ErrNoEntry
	default:
		return rediscmd.TimeLeft(left), nil
	}
}

// Value is the content of an entry. When it is printed or logged, it shows only its type.
type Value struct {
	// Type is the type of the sealed value, such as "string", "int64" or "json", or "plaintext".
	Type string
	// Text is the value in the form that plaintext in Redis has: the bytes of texts and codecs, and the digits of numbers.
	Text []byte
	// Sealed reports whether the value was sealed. A sealed value is authentic.
	Sealed bool
}

// String shows the type.
func (v Value) String() string { return "audit.Value(" + v.Type + ")" }

// GoString returns String.
func (v Value) GoString() string { return v.String() }

// LogValue returns String.
func (v Value) LogValue() slog.Value { return slog.StringValue(v.String()) }

// Open reads the entry of a key in a namespace, "" for none, and opens it under the first of the keys that does. It returns
// a plaintext value with Sealed false. Errors are ErrNoEntry, ErrExpired and those of middleware.Store.
func Open(ctx context.Context, client redis.UniversalClient, namespace, key string, keys ...tink.AEADWithContext) (Value, error) {
	s, err := rediswalk.New(client)
	if err != nil {
		return Value{}, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	name := key
	if namespace != "" {
		if err := wire.CheckNamespace(namespace); err != nil {
			return Value{}, fmt.Errorf("%w: %w", ErrConfig, err)
		}
		name = namespace + ":" + key
	}
	by, err := cachevalue.NewKeys(namespace, keys...)
	switch {
	case err != nil:
		return Value{}, fmt.Errorf("%w: %w", ErrConfig, err)
	case len(by) < len(keys):
		return Value{}, fmt.Errorf("%w: one of the given encryption keys is nil", ErrConfig)
	}
	// An attacker may have planted a huge value, if the server allows more than usual.
	if size, err := s.Client.StrLen(ctx, name).Result(); err != nil {
		return Value{}, readError(s, err)
	} else if size > cachevalue.MaxBytes {
		return Value{}, fmt.Errorf("audit: read the entry: %w: it has %d bytes, but at most %d are read", wire.ErrTooLarge, size, cachevalue.MaxBytes)
	}
	b, err := s.Client.Get(ctx, name).Bytes()
	switch {
	case errors.Is(err, redis.Nil):
		return Value{}, ErrNoEntry
	case err != nil:
		return Value{}, readError(s, err)
	case !wire.IsSealed(b):
		return Value{Type: "plaintext", Text: b}, nil
	case len(by) == 0:
		return Value{}, fmt.Errorf("audit: open the entry: %w: no encryption keys were given", aead.ErrUnknownKey)
	}
	h, n, err := wire.Parse(b)
	if err != nil {
		return Value{}, fmt.Errorf("audit: read the entry: %w", err)
	}
	if h.Kind != wire.CacheValue {
		return Value{}, fmt.Errorf("audit: open the entry: %w: the entry holds a %s instead of a cache value", aead.ErrUnauthentic, h.Kind)
	}
	plaintext, _, err := by.Open(ctx, false, key, b, n)
	if err != nil {
		return Value{}, fmt.Errorf("audit: open the entry: %w", err)
	}
	if h.Expired(time.Now()) {
		return Value{}, ErrExpired
	}
	_, plaintext, err = content.New(content.None, 0, false, cachevalue.MaxBytes).Unpack(h, plaintext)
	if err != nil {
		return Value{}, fmt.Errorf("audit: open the entry: %w", err)
	}
	text, err := cachevalue.Text(h.Type, plaintext)
	if errors.Is(err, cachevalue.ErrNoForm) {
		text, err = plaintext, nil
	}
	if err != nil {
		return Value{}, fmt.Errorf("audit: decode the value: %w", err)
	}
	return Value{Type: strings.ToLower(h.Type.String()), Text: text, Sealed: true}, nil
}
