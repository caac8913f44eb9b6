package main

import (
	"fmt"
	"strings"
)

// exitMeaning says when the program ends with a status. The first text is for every command. The others begin with the
// commands that they are about.
type exitMeaning struct {
	status int
	texts  []string
}

// exitMeanings is the table of the exit statuses, for the help. A test compares docs/rollout.md with it.
func exitMeanings() []exitMeaning {
	return []exitMeaning{
		{exitDone, []string{
			"Done, and nothing is left.",
			"audit: no value is plaintext (with --expect plaintext: none is sealed).",
			"audit --may-destroy, audit --may-disable: the key may be destroyed, or disabled.",
		}},
		{exitFailed, []string{"Failed or stopped. Work that is done stays done. The same command continues, unless the message says otherwise."}},
		{exitUsage, []string{"The command line or the configuration is wrong. Nothing was done."}},
		{exitLeft, []string{
			"Complete, but entries were left unchanged or may have been missed, or no entry or nothing to exclude was found.",
			"plan: there is an obstacle to the migration.",
			"audit: a value is plaintext (with --expect plaintext: sealed).",
			"audit --may-destroy, audit --may-disable: the key must not be destroyed, or disabled.",
			"get, inspect: there is no such entry. get: the value has expired, does not open, is plaintext or is not a string.",
			"evidence --check: the report has findings.",
		}},
		{exitUnknown, []string{
			"audit: the answer is not known. The report gives the reasons.",
			"evidence --check: there are no findings, but something was not examined.",
		}},
	}
}

// statusesText is the table of the exit statuses as text.
func statusesText() string {
	var b strings.Builder
	for _, m := range exitMeanings() {
		fmt.Fprintf(&b, "  %d  %s\n", m.status, strings.Join(m.texts, "\n     "))
	}
	return b.String()
}
