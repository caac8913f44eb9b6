package main

import (
	"bytes"
	"fmt"
	"html"
	"strings"
	"time"
)

// markdownText writes Markdown. Texts from files are escaped, so that they cannot add a line, a cell or a link.
type markdownText struct{ strings.Builder }

func (m *markdownText) line(format string, a ...any) { fmt.Fprintf(&m.Builder, format+"\n", a...) }

func (m *markdownText) table(columns ...string) {
	m.row(columns...)
	m.line("|%s", strings.Repeat("---|", len(columns)))
}

func (m *markdownText) row(cells ...string) {
	for i, c := range cells {
		cells[i] = cell(c)
	}
	m.line("| %s |", strings.Join(cells, " | "))
}

func (m *markdownText) list(items []string) {
	if len(items) == 0 {
		m.line("None.")
	}
	for _, i := range items {
		m.line("- %s", cell(i))
	}
}

// cell returns a text in one line without markup.
func cell(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, s)
	return strings.NewReplacer("|", `\|`, "[", `\[`, "]", `\]`, "`", "\\`", "*", `\*`, "_", `\_`).Replace(html.EscapeString(s))
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

// day returns a date, or nothing for an unknown time.
func day(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.DateOnly)
}

const markdownTitle = "# Evidence of encryption"

// isMarkdown reports whether a file begins as such a report.
func isMarkdown(beginning []byte) bool { return bytes.HasPrefix(beginning, []byte(markdownTitle+"\n")) }

// markdown is the report for readers.
func (r *evidence) markdown() string {
	m := &markdownText{}
	m.line("%s\n", markdownTitle)
	m.line("Made at %s by sealcache %s (%s).\n", r.Made.Format(time.RFC3339), cell(r.Build.Version), cell(r.Build.Go))
	m.line("## Findings\n")
	m.list(r.Findings)
	m.line("\n## Not examined\n")
	m.list(append(append([]string{}, r.NotExamined...), "never covered by this report: "+r.NotCovered))
	r.keyTables(m)
	r.cacheTables(m)
	r.auditTables(m)
	m.line("\n## FIPS 140\n")
	m.line("This describes the program that made the report, not the application.\n")
	m.table("module", "enabled", "only approved algorithms", "built with")
	m.row(r.FIPS.Module, yesNo(r.FIPS.Enabled), yesNo(r.FIPS.Enforced), r.FIPS.Built)
	return m.String()
}

func (r *evidence) keyTables(m *markdownText) {
	m.line("\n## Key-encryption keys\n")
	m.table("URI", "held in", "for", "wrap context of its data keys")
	for _, k := range r.KEKs {
		m.row(k.URI, k.Held, strings.Join(k.For, ", "), contextsText(k.Contexts))
	}
	m.line("\n## Keysets\n\nStates are those of NIST SP 800-57 part 1.")
	for _, k := range r.Keysets {
		under := "A plaintext file, protected by the platform."
		if len(k.Sealed) > 0 {
			under = "Sealed under " + strings.Join(k.Sealed, ", ") + ". SHA-256: " + k.SHA256 + "."
		}
		m.line("\n### %s\n", cell(k.Source))
		m.line("Use: %s, for %s. %s Ages of the keys: %s. Wrap context of its data keys: %s.\n", cell(k.Use), cell(strings.Join(k.For, ", ")), cell(under),
			k.Times, cell(contextsText(k.Contexts)))
		m.table("key", "algorithm", "status", "state", "made", "primary since", "not primary since", "disabled", "age in days")
		for _, key := range k.Keys {
			age := "unknown"
			if key.AgeDays != nil {
				age = fmt.Sprint(*key.AgeDays)
			}
			m.row(fmt.Sprint(key.ID), key.Algorithm, key.Status, key.State, day(key.Times.Created), day(key.Times.Promoted),
				day(key.Times.Demoted), day(key.Times.Disabled), age)
		}
	}
	if len(r.Keysets) == 0 {
		m.line("\nNone: the key-encryption keys wrap all data keys themselves.")
	}
}

func (r *evidence) cacheTables(m *markdownText) {
	m.line("\n## Caches\n")
	if len(r.Caches) == 0 {
		m.line("Not examined.")
	} else {
		m.table("cache", "namespace", "store", "TLS", "sealed", "plaintext", "until", "names", "wrap context")
		for _, c := range r.Caches {
			context := contextEvidence{Context: c.Context, State: c.ContextState}
			m.row(c.Name, c.Namespace, c.Store, yesNo(c.TLS), yesNo(c.Sealed), c.Plaintext, day(c.Until), c.Names, context.text())
		}
	}
	if j := r.Jobs; j != nil {
		m.line("\n## Jobs\n")
		m.table("keys of cache", "namespace", "store", "TLS", "plaintext", "until", "hidden types")
		m.row(j.KeysOf, j.Namespace, j.Redis, yesNo(j.TLS), j.Plaintext, day(j.Until), yesNo(j.Types))
	}
}

func (r *evidence) auditTables(m *markdownText) {
	m.line("\n## Audits\n")
	if len(r.Audits) == 0 {
		m.line("Not examined.")
	}
	for _, a := range r.Audits {
		m.line("### %s\n", a.Started.UTC().Format(time.RFC3339))
		m.line("%s **%s.** %s\n", cell(a.Question), strings.ToUpper(string(a.Answer)), cell(strings.Join(a.Reasons, "; ")))
		m.line("Scope: %s. Server: %s. Complete: %s. Values opened: %s. File: %s, SHA-256 %s.\n", cell(a.Scope), cell(header{Server: a.Server, Database: a.Database}.place()), yesNo(a.Complete),
			yesNo(a.Opened), cell(a.File), a.SHA256)
		m.line("Sealed: %d. Plaintext: %d. Unreadable: %d.\n", a.Total.Sealed.Values, a.Total.Plaintext.Values, a.Total.Unreadable.Values)
		m.table("sealed under", "values", "bytes")
		for _, k := range a.Keys {
			m.row(k.Key, fmt.Sprint(k.Values), fmt.Sprint(k.Bytes))
		}
		m.line("")
	}
	m.line("\n## Destroyed keys\n")
	if len(r.Certificates) == 0 {
		m.line("No certificate was given.")
		return
	}
	m.table("key", "type", "made", "destroyed", "audit", "certificate", "SHA-256")
	for _, c := range r.Certificates {
		allowed := "none"
		if c.Audit != nil {
			allowed = fmt.Sprintf("%s: %s", c.Audit.Started.UTC().Format(time.RFC3339), c.Audit.Answer)
		}
		m.row(fmt.Sprint(c.Destroyed.ID), c.Destroyed.Type, day(c.Destroyed.Times.Created), c.At.UTC().Format(time.RFC3339), allowed, c.Certificate, c.SHA256)
	}
}
