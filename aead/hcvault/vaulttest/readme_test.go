//go:build unix

package vaulttest_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/sealcache/sealcache/aead/hcvault/internal/servertest"
	"github.com/sealcache/sealcache/internal/redistest"
)

const walkChapter = "## Vault: from the README to a sealed value\n"

// block returns the text of the first block of a language in a document.
func block(t *testing.T, text, language string) string {
	t.Helper()
	found := regexp.MustCompile("(?ms)^```" + language + "\n(.*?)^```$").FindStringSubmatch(text)
	if found == nil {
		t.Fatalf("no block of %s", language)
	}
	return found[1]
}

// chapter returns the chapter of docs/keyservices.md that leads a user of Vault to a sealed value, and the README's program.
func chapter(t *testing.T, root string) (text, program string) {
	t.Helper()
	guide, err := os.ReadFile(filepath.Join(root, "docs", "keyservices.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, text, found := strings.Cut(string(guide), walkChapter)
	if !found {
		t.Fatal("the chapter has another title")
	}
	text, _, _ = strings.Cut(text, "\n## ")
	readme, err := os.ReadFile(filepath.Join(root, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	return text, block(t, string(readme), "go")
}

// apply changes lines as a diff says. Each removed line stands once in the text, and gives way to the added lines behind it.
func apply(t *testing.T, text, diff string) string {
	t.Helper()
	old := ""
	var added []string
	replace := func() {
		if old != "" && strings.Count(text, old) != 1 {
			t.Fatalf("the README does not have the line %q once", old)
		}
		if old != "" {
			text = strings.Replace(text, old, strings.Join(added, ""), 1)
		}
		added = nil
	}
	for line := range strings.Lines(diff) {
		switch line[0] {
		case '-':
			replace()
			old = line[1:]
		case ' ': // the added lines follow it
			replace()
			old, added = line[1:], []string{line[1:]}
		case '+':
			added = append(added, line[1:])
		default:
			t.Fatalf("not a line of a diff: %q", line)
		}
	}
	replace()
	return text
}

// build compiles a program in its own module, which replaces the modules of this repository.
func build(t *testing.T, root, program string) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"go.mod", "go.sum"} {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		data = []byte(strings.NewReplacer("module github.com/sealcache/sealcache/aead/hcvault/vaulttest\n", "module example.com/shop\n",
			"=> ../../..", "=> "+root, "=> ..\n", "=> "+filepath.Join(root, "aead", "hcvault")+"\n").Replace(string(data)))
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "main.go"), []byte(program), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "go", "build", "-mod=mod", "-o", "shop", ".")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOWORK=off")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return filepath.Join(dir, "shop")
}

// A user of Vault comes from the README to a sealed value. The key and the policy are those of the chapter. The program is the
// README's with the chapter's change. It prints what the chapter says.
func TestReadmeToSealedValue(t *testing.T) {
	t.Parallel()
	root, err := filepath.Abs("../../..")
	if err != nil {
		t.Fatal(err)
	}
	text, program := chapter(t, root)
	e := newEngine(t)
	for _, key := range regexp.MustCompile(`(?m)^vault write -f transit/keys/(\w+) (.*)$`).FindAllStringSubmatch(text, -1) {
		e.create(key[1], strings.Fields(key[2])...)
	}
	var may []string
	for _, path := range regexp.MustCompile(`(?m)^path "(.*)" \{ capabilities = \["update"\] \}$`).FindAllStringSubmatch(text, -1) {
		may = append(may, path[1])
	}
	if len(may) != 2 {
		t.Fatalf("the policy grants %q", may)
	}
	s := servertest.New(t, e.handle, false, "the-root-token")
	s.Set(token, &servertest.Token{Paths: may})
	r := &rotation{redis: redistest.Start(t)}
	r.env = append(environ(), "VAULT_ADDR="+s.URL(), "VAULT_TOKEN="+token)

	check := regexp.MustCompile(`(?m)^sealcache (kek check \S+) # status 0: (.*)$`).FindStringSubmatch(text)
	if check == nil {
		t.Fatal("the chapter does not check the key")
	}
	if out := r.sealcache(t, strings.Fields(check[1])...); !strings.HasPrefix(out, check[2]+"\n") {
		t.Errorf("%s prints %s", check[1], out)
	}
	const usual = "localhost:6379"
	program = apply(t, program, block(t, text, "diff"))
	if strings.Count(program, usual) != 1 {
		t.Fatalf("the program does not name %s once", usual)
	}
	cmd := exec.CommandContext(t.Context(), build(t, root, strings.ReplaceAll(program, usual, r.redis.Addr())))
	cmd.Env = slices.Clone(r.env)
	var log strings.Builder
	cmd.Stderr = &log
	out, err := cmd.Output()
	if err != nil || string(out) != block(t, text, "text") || log.String() != "" {
		t.Errorf("the program prints %q and %q: %v", out, log.String(), err)
	}
}
