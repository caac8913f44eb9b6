package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/sealcache/sealcache/aead"
)

// checkRounds is how often "kek check" wraps and unwraps. The first call may connect.
const checkRounds = 5

// kekCheck is "kek check".
type kekCheck struct{ json bool }

func (k *kekCheck) declare(f *flags) { f.BoolVar(&k.json, "json", false, jsonUse) }

// kekReport is the report of "kek check".
type kekReport struct {
	header
	URI     string  `json:"uri,omitempty"` // without credentials and options; only of an opened key
	Wraps   bool    `json:"wraps"`
	Unwraps bool    `json:"unwraps"`
	Open    float64 `json:"open_seconds"`
	Wrap    *timing `json:"wrap_seconds,omitempty"`
	Unwrap  *timing `json:"unwrap_seconds,omitempty"`
	Added   int     `json:"added_bytes,omitempty"`
	Error   string  `json:"error,omitempty"`
}

// timing holds times in seconds.
type timing struct {
	Median float64 `json:"median"`
	Worst  float64 `json:"worst"`
}

func (k *kekCheck) run(ctx context.Context, p *program, f *flags) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, keyTimeout)
	defer cancel()
	r := kekReport{header: newHeader(f)}
	err := r.check(ctx, f.args[0])
	if k.json {
		if err != nil {
			r.Error = message(err)
		}
		if err := writeJSON(p.stdout, r); err != nil {
			return 0, err
		}
		return statusOf(err), err
	}
	if err != nil {
		return 0, err
	}
	_, err = fmt.Fprint(p.stdout, r)
	return exitDone, err
}

// check opens a key and uses it.
func (r *kekReport) check(ctx context.Context, arg string) error {
	uri, err := uriOf(arg)
	if err == nil && uri != arg {
		_, err = aead.FileSource(arg).Load(ctx) // its error does not repeat a keyset that was given in place of its path
	}
	if err != nil {
		return keyError(err)
	}
	start := time.Now()
	kek, done, err := openKEK(ctx, uri)
	if err != nil {
		return err
	}
	defer done()
	r.URI = publicURI(uri) // not before: a URI that does not open may be a secret
	r.Open = time.Since(start).Seconds()
	if ring, ok := kek.(*aead.Keyring); ok {
		r.Keyset = infoOf(ring)
	}
	_, query, _ := strings.Cut(uri, "?")
	if strings.Contains("&"+query+"&", "&decrypt-only=true&") {
		r.Unwraps = true // opening it asked the service
		return nil
	}
	return r.use(ctx, kek)
}

// use wraps and unwraps probes.
func (r *kekReport) use(ctx context.Context, kek tink.AEADWithContext) error {
	probe, ad := make([]byte, 32), []byte("sealcache kek check")
	_, _ = rand.Read(probe) // never fails
	var wraps, unwraps []float64
	for range checkRounds {
		start := time.Now()
		wrapped, err := kek.EncryptWithContext(ctx, probe, ad)
		if err != nil {
			return keyError(err)
		}
		r.Wraps = true
		wraps = append(wraps, time.Since(start).Seconds())
		r.Added = len(wrapped) - len(probe)
		start = time.Now()
		opened, err := kek.DecryptWithContext(ctx, wrapped, ad)
		if err != nil {
			return keyError(err)
		}
		unwraps = append(unwraps, time.Since(start).Seconds())
		if !bytes.Equal(opened, probe) {
			return errors.New("decryption did not return the bytes that were encrypted (do not use this key-encryption key)")
		}
		r.Unwraps = true
		if _, err := kek.DecryptWithContext(ctx, wrapped, []byte("other associated data")); err == nil {
			return wrong("the key-encryption key does not authenticate associated data (use another key)")
		} else if !refusedByKey(err) {
			return keyError(err)
		}
	}
	r.Wrap, r.Unwrap = newTiming(wraps), newTiming(unwraps)
	return nil
}

func newTiming(s []float64) *timing {
	slices.Sort(s)
	return &timing{Median: s[len(s)/2], Worst: s[len(s)-1]}
}

// String is the report as text.
func (r kekReport) String() string {
	if !r.Wraps {
		return fmt.Sprintf("unwraps, and does not wrap, because its URI has decrypt-only=true\nopen    %8.3f ms\n", 1000*r.Open)
	}
	return fmt.Sprintf("wraps and unwraps\nopen    %8.3f ms\nwrap    %8.3f ms (median), %.3f ms (worst)\nunwrap  %8.3f ms (median), %.3f ms (worst)\nwrapping adds %d bytes\n",
		1000*r.Open, 1000*r.Wrap.Median, 1000*r.Wrap.Worst, 1000*r.Unwrap.Median, 1000*r.Unwrap.Worst, r.Added)
}
