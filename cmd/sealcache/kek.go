package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"net/url"
	"path/filepath"
	"strings"

	tinkaead "github.com/tink-crypto/tink-go/v2/aead"

	"github.com/sealcache/sealcache/aead/insecurecleartextkeyset" //nolint:depguard // to make the keyset of a file:// KEK, which is plaintext
)

func kekCommands() []entry {
	return []entry{{
		use: "create FILE|URI", short: "Make a key-encryption key", make: func() command { return new(kekCreate) },
		long: "Create makes a key-encryption key (KEK), and prints its URI, for --kek or SEALCACHE_KEK.\n\n" +
			"FILE or file:///path makes a file with a plaintext keyset, which its owner alone can read. Mount it from the secret store\n" +
			"of the platform. passphrase:env:NAME and passphrase:file:/path get a random salt. The passphrase itself must exist already.",
		example: "  sealcache kek create /run/secrets/kek.json\n  sealcache kek create passphrase:file:/run/secrets/passphrase",
	}, {
		use: "check FILE|URI", short: "Check whether this machine can wrap and unwrap", make: func() command { return new(kekCheck) },
		long: "Check opens a key-encryption key (KEK), wraps and unwraps a probe under it, and prints how long that takes. FILE is the\n" +
			"path of a file with a plaintext keyset.\n\n" +
			"The status is 0 if all of it works. It is 1 if a key service does not answer or a permission is missing, which the error\n" +
			"names. It is 2 if the URI is wrong, or the key is missing or disabled. A key that is opened with decrypt-only=true is\n" +
			"asked to unwrap only.",
		example: "  sealcache kek check hcvault://vault.example:8200/transit/keys/cache\n  sealcache kek check --json aws-kms://arn:aws:kms:eu-west-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab",
	}}
}

// kekCreate is "kek create".
type kekCreate struct{ json bool }

func (k *kekCreate) declare(f *flags) { f.BoolVar(&k.json, "json", false, jsonUse) }

func (k *kekCreate) run(ctx context.Context, p *program, f *flags) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, keyTimeout)
	defer cancel()
	uri, err := uriOf(f.args[0])
	if err != nil {
		return 0, err
	}
	h := newHeader(f)
	switch scheme, _, _ := strings.Cut(strings.ToLower(uri), ":"); scheme {
	case "file":
		h.Keyset, err = k.file(ctx, p, uri)
	case "passphrase":
		uri, err = k.passphrase(ctx, uri)
	case "hcvault", "aws-kms", "gcp-kms", "azurekeyvault":
		return 0, wrong("a key service makes its own keys (make one there, then run \"sealcache kek check URI\")")
	default:
		return 0, wrong("the URI has an unknown scheme (want file:///path, passphrase:env:NAME or passphrase:file:/path)")
	}
	if err != nil {
		return 0, err
	}
	if k.json {
		return exitDone, writeJSON(p.stdout, struct {
			header
			URI string `json:"uri"`
		}{h, uri})
	}
	_, err = fmt.Fprintln(p.stdout, uri)
	return exitDone, err
}

// uriOf returns the URI of the argument, which may be the path of a file. A name with a colon needs "./" before it.
func uriOf(arg string) (string, error) {
	first, _, _ := strings.Cut(arg, "/")
	if arg == "" || strings.Contains(first, ":") {
		return arg, nil
	}
	path, err := filepath.Abs(arg)
	if err != nil {
		return "", fileError(err)
	}
	return (&url.URL{Scheme: "file", Path: filepath.ToSlash(path)}).String(), nil
}

// file makes the keyset of a file:// KEK, says what it is, and returns its key.
func (k *kekCreate) file(ctx context.Context, p *program, uri string) ([]keyInfo, error) {
	u, err := url.Parse(uri)
	if err != nil || !filepath.IsAbs(u.Path) || u.Host != "" && u.Host != "localhost" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, wrong("the URI is malformed (want file:///absolute/path)")
	}
	var data bytes.Buffer
	if err := insecurecleartextkeyset.CreateKeyset(&data, tinkaead.AES256GCMKeyTemplate()); err != nil {
		return nil, err
	}
	h, view, err := readKeyset(ctx, data.Bytes(), nil, "")
	if err != nil {
		return nil, err
	}
	if err := createKeysetFile(u.Path, data.Bytes(), h, view); err != nil {
		return nil, err
	}
	_, err = fmt.Fprintf(p.stderr, "made %s: a Tink keyset in plaintext (keep the file secret: its key opens everything that is sealed under this KEK)\n", u.Path)
	return view.keys, err
}

// passphrase gives the URI of a passphrase a salt, and opens it once.
func (k *kekCreate) passphrase(ctx context.Context, uri string) (string, error) {
	if strings.Contains(uri, "?") {
		return "", wrong("the URI must not have parameters: the command adds salt= (leave out \"?\" and what follows)")
	}
	salt := make([]byte, 16)
	_, _ = rand.Read(salt) // never fails
	uri += "?salt=" + hex.EncodeToString(salt)
	_, done, err := openKEK(ctx, uri)
	if err != nil {
		return "", err
	}
	done()
	return uri, nil
}
