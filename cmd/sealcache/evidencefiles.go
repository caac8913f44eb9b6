package main

import (
	"encoding/json"
	"time"

	"github.com/sealcache/sealcache/middleware/audit"
)

// auditEvidence holds the result of an audit. It holds no names of entries.
type auditEvidence struct {
	File      string         `json:"file"`
	SHA256    string         `json:"sha256"`
	Started   time.Time      `json:"started"`
	Complete  bool           `json:"complete"`
	Opened    bool           `json:"opened"` // the values were opened
	Question  string         `json:"question"`
	Answer    audit.Answer   `json:"answer"`
	Wanted    audit.Answer   `json:"wanted_answer"`
	Reasons   []string       `json:"reasons,omitempty"`
	Scope     string         `json:"scope"`
	Server    string         `json:"server,omitempty"`
	Database  *int           `json:"database,omitempty"`
	Total     audit.Tally    `json:"total"`
	Keys      []audit.KeyUse `json:"keys"`
	asksPlain bool
}

// auditReport holds the fields of a report of an audit that commands read.
type auditReport struct {
	auditEvidence
	Schema     int       `json:"schema"`
	Command    string    `json:"command"`
	MayDestroy *uint32   `json:"may_destroy"`
	MayDisable *uint32   `json:"may_disable"`
	Keyset     []keyInfo `json:"keyset"`
	Digest     string    `json:"sealed_keyset_sha256"`
	known      bool      // the file has only members that this release knows
}

// readAuditReport reads a file. It reports false if the file is not a report of an audit of this release.
func readAuditReport(path string) (r auditReport, ok bool, err error) {
	data, err := readInput(path)
	if err != nil {
		return r, false, err
	}
	ok = json.Unmarshal(data, &r) == nil && r.Schema == schema && r.Command == "audit"
	r.File, r.SHA256, r.known = path, digestOf(data), new(auditFile).parse(data)
	return r, ok, nil
}

func readAudit(path string) (auditEvidence, error) {
	report, ok, err := readAuditReport(path)
	if err != nil {
		return auditEvidence{}, err
	}
	if !ok || report.Started.IsZero() || report.Question == "" {
		return auditEvidence{}, wrong("%s is not a report of this release (\"sealcache audit --report FILE\" writes one)", path)
	}
	switch report.Answer {
	case audit.Yes, audit.No, audit.Unknown:
	default:
		return auditEvidence{}, wrong("the answer in the audit report %s is unknown (did a newer release write the report?)", path)
	}
	a := report.auditEvidence
	a.Wanted = audit.No
	if report.MayDestroy != nil || report.MayDisable != nil {
		a.Wanted = audit.Yes
	}
	a.asksPlain = a.Question == questionPlaintext
	return a, nil
}

// destroyEvidence is a certificate of a destroyed key.
type destroyEvidence struct {
	Certificate string     `json:"certificate"` // its file
	SHA256      string     `json:"sha256"`
	File        string     `json:"file"` // of the keyset
	Destroyed   keyInfo    `json:"destroyed"`
	At          time.Time  `json:"destroyed_at"`
	Audit       *usedAudit `json:"audit"` // null if the key was destroyed without one
	Before      string     `json:"keyset_sha256_before"`
	After       string     `json:"keyset_sha256_after"`
}

func readCertificate(path string) (destroyEvidence, error) {
	data, err := readInput(path)
	if err != nil {
		return destroyEvidence{}, err
	}
	var c certificate
	if err := json.Unmarshal(data, &c); err != nil || c.Schema != schema || c.Command != "keys destroy" || c.Destroyed.ID == 0 ||
		c.At.IsZero() || c.After == "" {
		return destroyEvidence{}, wrong("%s is not a certificate of this release (want the output of \"sealcache keys destroy\")", path)
	}
	return destroyEvidence{path, digestOf(data), c.File, c.Destroyed, c.At, c.Audit, c.Before, c.After}, nil
}
