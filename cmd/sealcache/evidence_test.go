package main

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// The URI of a KEK is shown without logins, options and anything that may be a key.
func TestPublicURI(t *testing.T) {
	t.Parallel()
	for uri, want := range map[string]string{
		"file:///run/secrets/kek.json?reload=off":                                          "file:///run/secrets/kek.json",
		"passphrase:env:NAME?salt=secret":                                                  "passphrase:env:NAME",
		"passphrase:file:/run/secrets/pass#secret":                                         "passphrase:file:/run/secrets/pass",
		"hcvault://token:secret@vault:8200/transit/keys/cache?role-id=secret":              "hcvault://vault:8200/transit/keys/cache",
		"hcvault:///transit/keys/cache":                                                    "hcvault:///transit/keys/cache",
		"aws-kms://arn:aws:kms:eu-west-1:111122223333:key/1234?endpoint=https://secret@x":  "aws-kms://arn:aws:kms:eu-west-1:111122223333:key/1234",
		"gcp-kms://projects/p/locations/l/keyRings/r/cryptoKeys/k?credentials-file=secret": "gcp-kms://projects/p/locations/l/keyRings/r/cryptoKeys/k",
		"azurekeyvault://name.vault.azure.net/keys/cache?client-id=secret":                 "azurekeyvault://name.vault.azure.net/keys/cache",
		"base64key://secretsecretsecret":                                                   "unknown:...",
		"secret":                                                                           "unknown:...",
		"passphrase:secret":                                                                "passphrase:...",
		"passphrase:env:":                                                                  "passphrase:...",
		"passphrase:env:my secret":                                                         "passphrase:...",
		"passphrase:env:NAME;salt=secret":                                                  "passphrase:env:NAME",
		"passphrase:file:secret":                                                           "passphrase:...",
		"passphrase:secret:/run/secrets/pass":                                              "passphrase:...",
		"PASSPHRASE:secret":                                                                "passphrase:...",
		"file:secret":                                                                      "file:...",
		"file://user:secret@localhost/kek.json":                                            "file:...",
		"file:///run/secrets/{tenant}.json":                                                "file:///run/secrets/{tenant}.json",
		"hcvault:secret/x":                                                                 "hcvault:...",
		"hcvault:///transit/keys/x;token=secret":                                           "hcvault:///transit/keys/x",
		"hcvault://vault;token=secret/transit/keys/x":                                      "hcvault://vault",
		"hcvault://token:sec/ret@vault:8200/transit/keys/cache":                            "hcvault://vault:8200/transit/keys/cache",
		"hcvault://vault/transit/keys/cache?x=%40#secret@":                                 "hcvault://vault/transit/keys/cache",
		"hcvault://u:pa;ss@vault/transit/keys/{tenant}":                                    "hcvault://vault/transit/keys/{tenant}",
		"hcvault://u:pa;ss@vault/transit/keys/x;token=secret":                              "hcvault://vault/transit/keys/x",
		"hcvault://u:pa;s/s@vault/transit/keys/x":                                          "hcvault:...",
		"hcvault://vault/transit/keys/x;token=sec@ret":                                     "hcvault:...",
		"azurekeyvault:name.vault.azure.net/keys/secret":                                   "azurekeyvault:...",
		"": "unknown:...",
	} {
		require.Equal(t, want, publicURI(uri))
	}
}

// Texts from files cannot add a line, a cell or a link to the Markdown.
func TestMarkdownIsEscaped(t *testing.T) {
	t.Parallel()
	hostile := "a | b\n# title [x](http://evil) <script> `code`"
	r := &evidence{Audits: []auditEvidence{{Scope: hostile, Server: hostile, File: hostile, Question: hostile, Reasons: []string{hostile}}}}
	r.Findings = []string{hostile}
	text := r.markdown()
	require.NotContains(t, text, "<script>")
	require.NotContains(t, text, "[x](")
	for line := range strings.Lines(text) {
		require.False(t, strings.HasPrefix(line, "# title"), line)
	}
}
