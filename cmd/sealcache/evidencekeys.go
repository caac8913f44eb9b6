package main

import (
	"cmp"
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/tink-crypto/tink-go/v2/aead/aesgcm"
	"github.com/tink-crypto/tink-go/v2/aead/xaesgcm"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/prf/hmacprf"
	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/sealcache/sealcache/aead"
)

// kekEvidence describes a key-encryption key that was opened.
type kekEvidence struct {
	URI  string   `json:"uri"` // without credentials and options
	Kind string   `json:"kind"`
	Held string   `json:"held"` // where the key is
	For  []string `json:"for"`  // caches, or the flags

	Contexts []contextEvidence `json:"wrap_contexts,omitempty"` // of the data keys that it wraps itself
}

// keysetEvidence describes a keyset.
type keysetEvidence struct {
	Source       string          `json:"source"` // a path, or env:NAME
	Use          string          `json:"use"`
	For          []string        `json:"for"`
	Sealed       []string        `json:"sealed_under"` // KEKs; empty for a plaintext file
	Name         string          `json:"keyset_name,omitempty"`
	SHA256       string          `json:"sha256,omitempty"` // of a sealed keyset
	Times        string          `json:"times"`
	Cryptoperiod float64         `json:"cryptoperiod_seconds,omitempty"`
	Keys         []keyInEvidence `json:"keys"`

	Contexts []contextEvidence `json:"wrap_contexts,omitempty"` // of the data keys that it wraps

	cryptoperiod time.Duration
}

// keyInEvidence describes a key. State is one of NIST SP 800-57 part 1, section 7.
type keyInEvidence struct {
	keyInfo
	Algorithm string `json:"algorithm"`
	State     string `json:"state"`
	AgeDays   *int   `json:"age_days,omitempty"` // since it was made; missing if that is unknown
}

// The uses of a keyset.
const (
	useKEK     = "wraps data keys or seals keysets"
	useDataKey = "wraps data keys"
	useNames   = "hides names"
	useTokens  = "makes tokens of jobs"
)

// wantedKeyset is a keyset to report, and the KEKs above it.
type wantedKeyset struct {
	origin       string // the cache or the flag that names it
	kek          string
	others       []string
	keyset, name string // without a keyset only the KEKs are reported
	use          string
	cryptoperiod time.Duration
	context      map[string]string // of the data keys, which the keyset wraps, or the KEK if there is none
	contextState string
}

// inventory collects keys. Each KEK is opened once.
type inventory struct {
	report *evidence
	now    time.Time
	keks   map[string]tink.AEADWithContext // by the whole URI
	seen   map[string]int                  // by KEKs, keyset and name: the index of a keyset
	at     map[string]int                  // by the whole URI: the index of a KEK
	done   []func()
}

func newInventory(r *evidence, now time.Time) *inventory {
	return &inventory{report: r, now: now, keks: map[string]tink.AEADWithContext{}, seen: map[string]int{}, at: map[string]int{}}
}

func (i *inventory) close() {
	for _, done := range i.done {
		done()
	}
}

func (i *inventory) add(ctx context.Context, w wantedKeyset) error {
	var keks []tink.AEADWithContext
	var uris []string
	for _, uri := range append([]string{w.kek}, w.others...) {
		kek, err := i.kek(ctx, uri, w)
		if err != nil {
			return err
		}
		keks, uris = append(keks, kek), append(uris, publicURI(uri))
	}
	if w.keyset == "" {
		i.note(w, &i.report.KEKs[i.at[w.kek]].Contexts)
		return nil
	}
	kek := keks[0]
	if len(keks) > 1 {
		set, err := aead.NewKEKSet(kek, keks[1:]...)
		if err != nil {
			return keyError(err)
		}
		kek = set
	}
	return i.keyset(ctx, w, kek, uris)
}

// kek opens a KEK. A file:// KEK is a keyset itself.
func (i *inventory) kek(ctx context.Context, uri string, w wantedKeyset) (tink.AEADWithContext, error) {
	if kek, ok := i.keks[uri]; ok {
		named := &i.report.KEKs[i.at[uri]]
		named.For = withOrigin(named.For, w.origin)
		return kek, i.ownKeyset(ctx, uri, w)
	}
	kek, done, err := openKEK(ctx, uri)
	if err != nil {
		return nil, err
	}
	i.done = append(i.done, done)
	i.keks[uri], i.at[uri] = kek, len(i.report.KEKs)
	i.report.KEKs = append(i.report.KEKs, kekEvidence{URI: publicURI(uri), Kind: schemeOf(uri), Held: heldIn(uri), For: []string{w.origin}})
	return kek, i.ownKeyset(ctx, uri, w)
}

// ownKeyset reports the keyset of a file:// KEK.
func (i *inventory) ownKeyset(ctx context.Context, uri string, w wantedKeyset) error {
	if schemeOf(uri) != "file" {
		return nil
	}
	path, err := fileOfKEK(uri)
	if err != nil {
		return err
	}
	own := wantedKeyset{origin: w.origin, keyset: path, use: useKEK}
	if w.keyset == "" {
		own.cryptoperiod = w.cryptoperiod
	}
	return i.keyset(ctx, own, nil, []string{})
}

func (i *inventory) keyset(ctx context.Context, w wantedKeyset, kek tink.AEADWithContext, uris []string) error {
	id := strings.Join(append(slices.Clone(uris), w.keyset, w.name), "\n")
	if at, ok := i.seen[id]; ok {
		known := &i.report.Keysets[at]
		known.For = withOrigin(known.For, w.origin)
		known.limit(w.cryptoperiod)
		i.note(w, &known.Contexts)
		return nil
	}
	source, path, err := keysetSource("keyset", w.keyset)
	if err != nil {
		return err
	}
	read, err := readKeysetWithTimes(ctx, source, path, kek, w.name, "its KEK and its keyset name")
	if err != nil {
		return err
	}
	k := keysetEvidence{
		Source: w.keyset, Use: w.use, For: []string{w.origin}, Sealed: uris, Name: w.name, Times: read.times,
		Keys: i.keys(read),
	}
	if kek != nil {
		k.SHA256 = read.digest
	}
	if path != "" {
		k.Source = path
	}
	k.limit(w.cryptoperiod)
	i.note(w, &k.Contexts)
	i.seen[id] = len(i.report.Keysets)
	i.report.Keysets = append(i.report.Keysets, k)
	return nil
}

// limit records a cryptoperiod. The shortest one applies.
func (k *keysetEvidence) limit(cryptoperiod time.Duration) {
	if cryptoperiod > 0 && (k.cryptoperiod == 0 || cryptoperiod < k.cryptoperiod) {
		k.cryptoperiod, k.Cryptoperiod = cryptoperiod, cryptoperiod.Seconds()
	}
}

func (i *inventory) keys(read *keysetRead) []keyInEvidence {
	var keys []keyInEvidence
	for at, info := range read.view.keys {
		k := keyInEvidence{keyInfo: info, Algorithm: algorithm(read.handle, at, info), State: stateOf(info)}
		if age, known := (aead.KeyInfo{Times: info.Times}).Age(i.now); known {
			days := int(max(age, 0) / (24 * time.Hour))
			k.AgeDays = &days
		}
		keys = append(keys, k)
	}
	return keys
}

func withOrigin(list []string, origin string) []string {
	if slices.Contains(list, origin) {
		return list
	}
	return append(list, origin)
}

// algorithm names the algorithm and the size of a key.
func algorithm(h *keyset.Handle, at int, info keyInfo) string {
	entry, err := h.Entry(at)
	if err != nil || entry.KeyID() != info.ID {
		return info.Type
	}
	switch p := entry.Key().Parameters().(type) {
	case *aesgcm.Parameters:
		return fmt.Sprintf("AES-%d-GCM", 8*p.KeySizeInBytes())
	case *xaesgcm.Parameters:
		return "XAES-256-GCM"
	case *hmacprf.Parameters:
		return fmt.Sprintf("HMAC-%s, %d bits", p.HashType(), 8*p.KeySizeInBytes())
	default:
		return info.Type
	}
}

// stateOf returns the state of a key in the words of NIST SP 800-57 part 1.
func stateOf(k keyInfo) string {
	t := k.Times
	switch {
	case k.Status == statusDestroyed:
		return "destroyed"
	case k.Status != statusEnabled:
		return "suspended"
	case k.Primary:
		return "active"
	case t.Created.IsZero() && t.Promoted.IsZero() && t.Demoted.IsZero():
		return "opens only"
	case t.Promoted.IsZero() && t.Demoted.IsZero():
		return "pre-activation"
	default:
		return "deactivated"
	}
}

func schemeOf(uri string) string {
	scheme, _, ok := strings.Cut(strings.ToLower(uri), ":")
	if !ok || !slices.Contains(schemes(), scheme) {
		return "unknown"
	}
	return scheme
}

// heldIn returns a text that says where the key of a URI is kept.
func heldIn(uri string) string {
	held := map[string]string{
		"file": "a plaintext file, mounted by the platform", "passphrase": "derived from a passphrase with argon2id",
		"hcvault": "Vault or OpenBao, transit engine", "aws-kms": "AWS KMS", "gcp-kms": "Google Cloud KMS", "azurekeyvault": "Azure Key Vault",
	}
	return cmp.Or(held[schemeOf(uri)], "unknown")
}

// publicURI returns the URI of an opened KEK without credentials, for reports. It drops user, query, fragment and matrix
// parameters, because logins are there. Of a URI in another form than those that are documented it shows the scheme alone: the
// rest may be the key itself.
func publicURI(uri string) string {
	scheme := schemeOf(uri)
	_, rest, _ := strings.Cut(uri[:strings.IndexAny(uri+"?", "?#")], ":")
	if scheme == "passphrase" || scheme == "file" {
		rest, _, _ = strings.Cut(rest, ";")
	}
	shown := false
	switch scheme {
	case "unknown":
	case "passphrase":
		kind, name, _ := strings.Cut(rest, ":")
		shown = kind == "env" && isVariable(name) || kind == "file" && filepath.IsAbs(name)
	case "file":
		shown = strings.HasPrefix(rest, "///") || strings.HasPrefix(rest, "//localhost/")
	default: // url.Parse does not take an ARN as a host
		rest, shown = strings.CutPrefix(rest, "//")
		login := strings.LastIndexByte(rest, '@') + 1
		if user := rest[:login]; strings.Contains(user, ";") && strings.Contains(user, "/") {
			shown = false // the "@" may be in a matrix parameter
		}
		rest, _, _ = strings.Cut(rest[login:], ";")
		rest = "//" + rest
	}
	if !shown {
		rest = "..."
	}
	return scheme + ":" + rest
}

// isVariable reports whether s can be the name of an environment variable, or a pattern of such names with {tenant}.
func isVariable(s string) bool {
	return s != "" && strings.Trim(strings.ToUpper(s), "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-{}") == ""
}
