package main

import (
	"io"
	"regexp"
	"slices"
	"strings"
)

// settingNames are pairs: a phrase in a text of the library, which names its settings, and the phrase with flags. The
// command shows the result and decides nothing by it.
func settingNames() []string {
	return []string{
		"exclude them or set LeaveNumbers", "--exclude them or give --leave-numbers",
		"exclude them by name", "--exclude them",
		"leave out the names of other applications", "give --other-applications for the names of other applications",
		"Samples shows their names", "--samples 10 shows their names",
		"run the audit without namespace and prefix", "give --all",
		"run the audit without OneDatabase", "leave out --one-database",
		"set NotPrimarySince", "give --not-primary-since",
		"set Proof or AllowUnproven", "give --proof CACHE-KEY or --allow-unproven",
		"because Stored is set", "because --stored is given",
		"larger than MaxValueBytes", "larger than --max-value-bytes",
		"set Proof to an entry", "give --proof CACHE-KEY of an entry",
		"with the setting HiddenKeys or OneWayKeys, the namespaces of To and From must differ",
		"with --hidden-keys or --one-way-keys, --to-namespace must differ from --namespace",
		"run without To first", "run without --to-namespace first",
		"names that OneWayKeys hides", "names that --one-way-keys hides",
		"Prefix and Exclude cannot match", "--prefix and --exclude cannot match",
		"(remove the settings with prefixes)", "(remove the flags with prefixes)",
		"(remove these settings)", "(remove these flags)",
		"had another value of OldKeys", "had another --old-kek or --old-keyset",
		"the entry in Proof", "the entry of --proof",
		"set Proof to the name", "set --proof to the name",
		"the setting Proof must be", "--proof must be",
		"make another key primary first", "\"sealcache keys promote\" makes another key primary",
		"connect to its master or a Sentinel", "connect to its master or with redis+sentinel://...",
		"redis+cluster:// or redis.NewClusterClient", "--redis redis+cluster://...",
		"From: ", "--namespace: ",
		"To: ", "--to-namespace: ",
	}
}

// settingPatterns are the phrases that carry a value.
func settingPatterns() map[*regexp.Regexp]string {
	return map[*regexp.Regexp]string{
		regexp.MustCompile(`\bignore type (\S+) if`):                    "--ignore-type $1 if",
		regexp.MustCompile(`\bExclude\[\d+\]`):                          "--exclude",
		regexp.MustCompile(`\bOtherApplications\[\d+\]`):                "--other-applications",
		regexp.MustCompile(`\bOtherApplications covers Namespaces\b.*`): "--other-applications covers --namespace",
		regexp.MustCompile(`\bIgnoreTypes: `):                           "--ignore-type: ",
	}
}

// withFlags names the flags in a text of the library.
func withFlags(text string) string {
	text = strings.NewReplacer(settingNames()...).Replace(text)
	for pattern, flag := range settingPatterns() {
		text = pattern.ReplaceAllString(text, flag)
	}
	return text
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
