package main

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/sealcache/sealcache/middleware/audit"
)

func (r *evidence) found(format string, a ...any) {
	r.Findings = append(r.Findings, fmt.Sprintf(format, a...))
}

// find lists the facts that an auditor will ask about, and the parts that were not examined. Audits that are older than maxAge
// are such facts, unless maxAge is 0.
func (r *evidence) find(maxAge time.Duration) {
	for _, k := range r.KEKs {
		r.findInContexts(k.Contexts)
	}
	for _, k := range r.Keysets {
		r.findInKeyset(k)
		r.findInContexts(k.Contexts)
	}
	for _, c := range r.Caches {
		r.findInCache(c)
	}
	if j := r.Jobs; j != nil && j.Tolerates {
		r.found("jobs: plaintext is accepted (%s) %s", j.Plaintext, ending(j.Until))
	}
	switch {
	case len(r.Audits) == 0:
		r.NotExamined = append(r.NotExamined, "stored values: no --audit was given")
	case !slices.ContainsFunc(r.Audits, func(a auditEvidence) bool { return a.asksPlain }):
		r.NotExamined = append(r.NotExamined, "stored values: no --audit asks whether they are plaintext")
	}
	for _, a := range r.Audits {
		r.findInAudit(a)
		r.findAge(a, maxAge)
	}
	for _, c := range r.Certificates {
		if c.Audit == nil {
			r.found("certificate %s: key %d was destroyed without an audit", c.Certificate, c.Destroyed.ID)
		}
		for _, k := range r.Keysets {
			if (&keysetView{keys: k.infos()}).key(c.Destroyed.ID) != nil {
				r.found("certificate %s: key %d is still in the keyset %s", c.Certificate, c.Destroyed.ID, k.Source)
			}
		}
	}
}

func (k keysetEvidence) infos() []keyInfo {
	var infos []keyInfo
	for _, key := range k.Keys {
		infos = append(infos, key.keyInfo)
	}
	return infos
}

func (r *evidence) findInKeyset(k keysetEvidence) {
	if k.Times == timesRefused {
		r.found("keyset %s: its file with the ages of the keys (.times) is not authentic, so the ages are left out", k.Source)
	}
	for _, key := range k.Keys {
		if key.Status != statusEnabled {
			continue
		}
		since := cmp.Or(key.Times.Promoted, key.Times.Created)
		switch {
		case key.AgeDays == nil:
			r.found("keyset %s: the age of key %d is unknown", k.Source, key.ID)
		case key.Primary && k.cryptoperiod > 0 && r.Made.Sub(since) > k.cryptoperiod:
			r.found("keyset %s: key %d has been the primary key for longer than its cryptoperiod of %v", k.Source, key.ID, k.cryptoperiod)
		}
	}
}

func (r *evidence) findInCache(c cacheEvidence) {
	switch {
	case !c.Sealed:
		r.found("cache %s: values are stored as plaintext", c.Name)
	case c.Tolerates:
		r.found("cache %s: plaintext is accepted (%s) %s", c.Name, c.Plaintext, ending(c.Until))
	}
}

func ending(until time.Time) string {
	if until.IsZero() {
		return "without an end"
	}
	return "until " + until.UTC().Format(time.RFC3339)
}

func (r *evidence) findInAudit(a auditEvidence) {
	switch {
	case a.Answer != a.Wanted:
		r.found("audit %s: %s %s", a.File, a.Question, a.Answer)
	case !a.Complete:
		r.found("audit %s: the scan did not complete (run the audit again)", a.File)
	case a.Wanted == audit.No && !a.asksPlain:
		r.found("audit %s: the audit does not ask whether values are plaintext", a.File)
	}
	if a.Total.Unreadable.Values > 0 {
		r.found("audit %s: %s not open", a.File, count(a.Total.Unreadable.Values, "value does", "values do"))
	}
}

// findAge reports an audit that says nothing about the present. An audit that a certificate names says what it has to about the
// time when the key was destroyed.
func (r *evidence) findAge(a auditEvidence, most time.Duration) {
	const clocks = 5 * time.Minute // between two machines
	destroyed := slices.ContainsFunc(r.Certificates, func(c destroyEvidence) bool { return c.Audit != nil && c.Audit.SHA256 == a.SHA256 })
	switch age := r.Made.Sub(a.Started); {
	case age < -clocks:
		r.found("audit %s: the audit began after this report was made (check the clocks)", a.File)
	case most > 0 && age > most && !destroyed:
		r.found("audit %s: the audit began %v ago, which is more than %v (run the audit again)", a.File, age.Round(time.Minute), most)
	}
}
