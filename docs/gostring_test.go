package docs_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Some printers of values, such as github.com/kr/pretty, call GoString and never Format. Without GoString they print the fields,
// which may be keys.
func TestTypesWithFormatHaveGoString(t *testing.T) {
	t.Parallel()
	method := regexp.MustCompile(`(?m)^func \((?:\w+ )?\*?(\w+)(?:\[[^\]]*\])?\) (Format\(\w+ fmt\.State|GoString\(\))`)
	methods := map[string]map[string]bool{} // by directory and type
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && len(d.Name()) > 2 && strings.HasPrefix(d.Name(), "."):
			return filepath.SkipDir
		case d.IsDir(), filepath.Ext(path) != ".go", strings.HasSuffix(path, "_test.go"):
			return nil
		}
		source, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, m := range method.FindAllStringSubmatch(string(source), -1) {
			name := filepath.Dir(path) + "." + m[1]
			if methods[name] == nil {
				methods[name] = map[string]bool{}
			}
			methods[name][m[2][:1]] = true
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	formatters := 0
	for name, has := range methods {
		if has["F"] {
			formatters++
		}
		if has["F"] && !has["G"] {
			t.Errorf("%s has Format and lacks GoString", name)
		}
	}
	if formatters < 10 {
		t.Errorf("the test found only %d types with Format", formatters)
	}
}
