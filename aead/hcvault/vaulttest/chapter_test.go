//go:build unix

package vaulttest_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sealcache/sealcache/internal/runbooktest"
)

// keysOf returns the keys of the keyset, the primary key first.
func (r *rotation) keysOf(t *testing.T) []uint32 {
	t.Helper()
	var list struct {
		Keyset []struct {
			ID      uint32
			Primary bool
		}
	}
	if err := json.Unmarshal([]byte(r.sealcache(t, "keys", "list", "--json")), &list); err != nil {
		t.Fatal(err)
	}
	var all []uint32
	for _, k := range list.Keyset {
		if k.Primary {
			all = slices.Insert(all, 0, k.ID)
		} else {
			all = append(all, k.ID)
		}
	}
	return all
}

// book opens a runbook. Its commands find sealcache, and run in the environment of the service.
func (r *rotation) book(t *testing.T, file string) *runbooktest.Runbook {
	t.Helper()
	path, err := command()
	if err != nil {
		t.Fatal(err)
	}
	bin := t.TempDir()
	if err := os.Symlink(path, filepath.Join(bin, "sealcache")); err != nil {
		t.Fatal(err)
	}
	b := runbooktest.Open(t, file)
	b.Environ = append(slices.Clone(r.env), "PATH="+bin+string(os.PathListSeparator)+os.Getenv("PATH"))
	return b
}

// The rotation chapter, command by command as it stands there, over a keyset that Vault seals, against three processes under load.
// It ends with the old key destroyed, nothing unreadable, no failed operation, and evidence of it.
func TestRotationChapterUnderLoad(t *testing.T) {
	t.Parallel()
	const section = "A new key"
	r := newRotation(t, true, "")
	r.start(t)
	book := r.book(t, "../../../docs/rollout.md")
	book.Begin(t, section)
	book.Words["--reload 1m"] = "--reload 1s"

	book.Follow(t, section) // add, list
	both := r.keysOf(t)
	if len(both) != 2 {
		t.Fatalf("the keyset has the keys %d", both)
	}
	old, next := both[0], both[1]
	book.Words["1111111111"], book.Words["2222222222"] = fmt.Sprint(old), fmt.Sprint(next)
	r.everywhere(t, "the new key", func(_, now status) bool { return slices.Contains(now.Keys, next) })
	book.Follow(t, section) // promote
	r.everywhere(t, "the new primary key", func(_, now status) bool { return now.Primary == next })
	r.work(t)
	if out := book.Follow(t, section); !strings.Contains(out, " written") {
		t.Errorf("reseal:\n%s", out)
	}
	book.Follow(t, section) // disable
	r.everywhere(t, "the disabled key", func(_, now status) bool { return !slices.Contains(now.Keys, old) })
	r.work(t)
	if out := book.Follow(t, section); !strings.Contains(out, fmt.Sprintf("May key %d be destroyed? YES", old)) {
		t.Errorf("audit:\n%s", out)
	}
	book.Follow(t, section) // destroy
	r.work(t)
	book.Follow(t, section) // evidence
	if book.HasMore(section) {
		t.Error("the chapter has more commands")
	}
	if left := r.keysOf(t); !slices.Equal(left, []uint32{next}) {
		t.Errorf("the keyset has the keys %d, want %d", left, next)
	}
	r.checkEvidence(t, filepath.Join(book.Dir, "evidence.json"), old, next)
	r.end(t)
}

// checkEvidence checks the report at the end of the chapter.
func (r *rotation) checkEvidence(t *testing.T, file string, old, next uint32) {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(data), token) {
		t.Error("the report shows the token")
	}
	type key struct {
		ID    uint32
		State string
	}
	var report struct {
		KEKs         []struct{ URI string }
		Keysets      []struct{ Keys []key }
		Caches       []struct{ Sealed bool }
		Audits       []struct{ Answer string }
		Certificates []struct {
			Destroyed key
			Audit     *struct{ Answer string }
		}
		Findings    []string
		NotExamined []string `json:"not_examined"`
	}
	if err := json.Unmarshal(data, &report); err != nil {
		t.Fatal(err)
	}
	switch {
	case len(report.KEKs) != 1 || report.KEKs[0].URI != keyURI,
		len(report.Keysets) != 1 || !slices.Equal(report.Keysets[0].Keys, []key{{next, "active"}}),
		len(report.Caches) != 1 || !report.Caches[0].Sealed,
		len(report.Audits) != 2 || report.Audits[0].Answer != "no" || report.Audits[1].Answer != "yes",
		len(report.Certificates) != 1 || report.Certificates[0].Destroyed.ID != old,
		report.Certificates[0].Audit == nil || report.Certificates[0].Audit.Answer != "yes",
		len(report.Findings)+len(report.NotExamined) > 0:
		t.Errorf("the report is %s", data)
	}
}
