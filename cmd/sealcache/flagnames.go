package main

import (
	"io"
	"regexp"
	"slices"
	"strings"
)

// settingFlags returns the flag of each setting of the library. Texts of the library write a setting as Config.Name, with the
// name that it has in Go.
func settingFlags() map[string]string {
	return map[string]string{
		"Conditions.Keyset":          "keyset",
		"Conditions.NotPrimarySince": "not-primary-since",
		"Conditions.Reload":          "reload",
		"Config.AllowEviction":       "allow-eviction",
		"Config.AllowFewerReplicas":  "allow-fewer-replicas",
		"Config.AllowUnproven":       "allow-unproven",
		"Config.As":                  "as",
		"Config.BytesPerSecond":      "bytes-rate",
		"Config.Checkpoint":          "checkpoint",
		"Config.Control":             "control",
		"Config.DeleteOld":           "delete-old",
		"Config.DryRun":              "dry-run",
		"Config.Exclude":             "exclude",
		"Config.From":                "namespace",
		"Config.From.Namespace":      "namespace",
		"Config.From.Prefix":         "prefix",
		"Config.GroupBy":             "group-by",
		"Config.HiddenKeys":          "hidden-keys",
		"Config.IgnoreTypes":         "ignore-type",
		"Config.IgnoreUnreadable":    "ignore-unreadable",
		"Config.Keys":                "kek",
		"Config.Largest":             "largest",
		"Config.LeaveNumbers":        "leave-numbers",
		"Config.MaxLagBytes":         "max-lag",
		"Config.MaxLatency":          "max-latency",
		"Config.MaxValueBytes":       "max-value-bytes",
		"Config.Namespace":           "namespace",
		"Config.Namespaces":          "namespace",
		"Config.OldKeys":             "old-kek",
		"Config.OneDatabase":         "one-database",
		"Config.OneWayKeys":          "one-way-keys",
		"Config.OtherApplications":   "other-applications",
		"Config.Overhead":            "keys-as",
		"Config.Prefix":              "prefix",
		"Config.Proof":               "proof",
		"Config.Rate":                "rate",
		"Config.Replica":             "replica",
		"Config.Samples":             "samples",
		"Config.Stored":              "stored",
		"Config.To":                  "to-namespace",
		"Config.To.Namespace":        "to-namespace",
		"Config.To.Prefix":           "to-prefix",
	}
}

// withFlags replaces the settings in a text of the library by flags. A repeated flag has no index.
func withFlags(text string) string {
	flags := settingFlags()
	return regexp.MustCompile(`\b(Config|Conditions)(\.[A-Z][A-Za-z]*)+(\[\d+\])?`).ReplaceAllStringFunc(text, func(setting string) string {
		name, _, _ := strings.Cut(setting, "[")
		if flag, ok := flags[name]; ok {
			return "--" + flag
		}
		return setting
	})
}

// flagged returns texts of the library with the flags named in them. Nil stays nil, so that no empty list is shown.
func flagged(texts []string) []string {
	texts = slices.Clone(texts)
	for i := range texts {
		texts[i] = withFlags(texts[i])
	}
	return texts
}

// flagWriter replaces the library's settings by flags in the lines that are written to it.
type flagWriter struct{ w io.Writer }

func (f flagWriter) Write(b []byte) (int, error) {
	if _, err := io.WriteString(f.w, withFlags(string(b))); err != nil {
		return 0, err
	}
	return len(b), nil
}
