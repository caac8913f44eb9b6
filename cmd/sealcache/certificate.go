package main

import "time"

// certificate records which key was destroyed, when, and which audit allowed it. An auditor keeps it as
// evidence.
type certificate struct {
	header
	keysetPlace
	Destroyed keyInfo    `json:"destroyed"` // with its times
	At        time.Time  `json:"destroyed_at"`
	Audit     *usedAudit `json:"audit"` // null if the key was destroyed with --yes
	Before    string     `json:"keyset_sha256_before"`
	After     string     `json:"keyset_sha256_after"`
	NotBound  string     `json:"not_covered"`
}

// usedAudit is the audit that allowed the destruction.
type usedAudit struct {
	File     string    `json:"file"`
	SHA256   string    `json:"sha256"`
	Started  time.Time `json:"started"`
	Answer   string    `json:"answer"`
	Scope    string    `json:"scope"`
	Server   string    `json:"server,omitempty"`
	Database *int      `json:"database,omitempty"`
}

// notCovered lists the places that an audit cannot see.
const notCovered = "backups and snapshots of Redis and of the keyset's file, other servers, and keysets that are sealed under the key"

// sha256Of returns the digest of a file, or nothing.
func sha256Of(path string) string {
	data, err := readInput(path)
	if err != nil {
		return ""
	}
	return digestOf(data)
}
