package fxmodule

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/sealcache/sealcache/internal/errtext"
	"github.com/sealcache/sealcache/middleware"
)

// maxYAMLBytes bounds a settings file: 1 MiB.
const maxYAMLBytes = 1 << 20

// ConfigFromYAML reads the Config from one YAML document. docs/fx.md has an example. Unknown and repeated settings, further
// documents and durations without a unit are errors. Errors name lines and settings but no values. The result is validated.
func ConfigFromYAML(r io.Reader) (Config, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxYAMLBytes+1))
	if err != nil {
		return Config{}, fmt.Errorf("fxmodule: YAML: cannot read: %w", errtext.Guard(err))
	}
	if len(data) > maxYAMLBytes {
		return Config{}, fmt.Errorf("fxmodule: YAML: the text has more than %d bytes", maxYAMLBytes)
	}
	root, err := parseYAML(data)
	if err != nil {
		return Config{}, fmt.Errorf("fxmodule: YAML: %w", err)
	}
	var c Config
	if err := decodeYAML(root, &c); err != nil {
		return Config{}, fmt.Errorf("fxmodule: YAML: %w", err)
	}
	if err := c.Validate(); err != nil {
		return Config{}, err
	}
	return c, nil
}

// UnmarshalYAML reads a Config that is a section of an application's own settings, as strictly as ConfigFromYAML. Aliases and
// merges may refer to the rest of the file. With what they refer to, a section has at most 1 MiB. It does not validate; the
// module does.
func (c *Config) UnmarshalYAML(n *yaml.Node) error {
	if err := decodeYAML(n, c); err != nil {
		return fmt.Errorf("fxmodule: YAML: %w", err)
	}
	return nil
}

// expansion copies settings with the nodes to which their aliases refer. It is bounded, because a few aliases of aliases can
// refer to gigabytes.
type expansion struct {
	left   int // bytes
	depth  int
	within map[*yaml.Node]bool
}

const (
	nodeBytes    = 8 // added to the bound for each node, to the bytes of its texts
	maxYAMLDepth = 100
)

func (e *expansion) node(n *yaml.Node) (*yaml.Node, error) {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if e.left -= len(n.Value) + len(n.Tag) + nodeBytes; e.left < 0 {
		return nil, fmt.Errorf("the settings and their aliases have more than %d bytes", maxYAMLBytes)
	}
	if e.within[n] {
		return nil, fmt.Errorf("line %d: the anchor contains itself", n.Line)
	}
	if e.depth++; e.depth > maxYAMLDepth {
		return nil, fmt.Errorf("the settings and their aliases have more than %d levels", maxYAMLDepth)
	}
	e.within[n] = true
	defer func() { delete(e.within, n); e.depth-- }()
	c := *n
	c.Content = slices.Clone(n.Content)
	for i := range c.Content {
		var err error
		if c.Content[i], err = e.node(c.Content[i]); err != nil {
			return nil, err
		}
	}
	return &c, nil
}

// parseYAML returns the root of the only document.
func parseYAML(data []byte) (*yaml.Node, error) {
	var root yaml.Node
	d := yaml.NewDecoder(bytes.NewReader(data))
	switch err := d.Decode(&root); {
	case errors.Is(err, io.EOF):
		return nil, errors.New("the text is empty (give at least the section \"caches\")")
	case err != nil:
		return nil, hideValues(err)
	}
	if err := d.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return nil, errors.New("the text has more than one YAML document")
	}
	return &root, nil
}

// decodeYAML decodes nodes and not text, so that errors have the lines of the file.
func decodeYAML(n *yaml.Node, c *Config) error {
	type fields Config // without UnmarshalYAML
	e := expansion{left: maxYAMLBytes, within: map[*yaml.Node]bool{}}
	n, err := e.node(n)
	if err != nil {
		return err
	}
	if err := checkNumbers(n); err != nil {
		return err
	}
	*c = Config{}
	errs := unknownSettings(n, reflect.TypeFor[fields]())
	if err := n.Decode((*fields)(c)); err != nil {
		errs = append(errs, hideValues(err))
	}
	return errors.Join(errs...)
}

// unknownSettings returns an error for each name that is not a setting. Only the decoder of texts has a check of its names.
func unknownSettings(n *yaml.Node, t reflect.Type) []error {
	var errs []error
	switch {
	case n.Kind == yaml.DocumentNode, n.Kind == yaml.SequenceNode:
		if n.Kind == yaml.SequenceNode && t.Kind() == reflect.Slice {
			t = t.Elem()
		}
		for _, child := range n.Content {
			if n.Kind == yaml.SequenceNode && isNull(child) { // the YAML library drops it
				errs = append(errs, fmt.Errorf("line %d: the list contains an empty value", child.Line))
			}
			errs = append(errs, unknownSettings(child, t)...)
		}
	case n.Kind == yaml.MappingNode && (t.Kind() == reflect.Map || t.Kind() == reflect.Struct && t != reflect.TypeFor[time.Time]()):
		for i := 0; i+1 < len(n.Content); i += 2 {
			name, value := n.Content[i], n.Content[i+1]
			of, known := t, true
			switch {
			case name.Kind == yaml.ScalarNode && name.ShortTag() == "!!merge": // value has names of the same level
			case t.Kind() == reflect.Map:
				of, known = t.Elem(), !isNull(name) // the YAML library drops a value under null
			case name.Kind == yaml.ScalarNode:
				of, known = settingType(t, name.Value)
			}
			if !known {
				errs = append(errs, fmt.Errorf("line %d: unknown setting %s", name.Line, showName(name.Value))) // "store redis://..." without its colon is not a name
				continue
			}
			errs = append(errs, unknownSettings(value, of)...)
		}
	}
	return errs
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" }

// settingType returns the type of a setting of a group.
func settingType(group reflect.Type, name string) (t reflect.Type, known bool) {
	for f := range group.Fields() {
		if f.Tag.Get("yaml") == name && name != "-" {
			return f.Type, true
		}
	}
	return nil, false
}

// checkNumbers refuses fractions. No setting has one, and the YAML library cuts a fraction off where a whole number is
// expected: 0.5 would be 0, the default.
func checkNumbers(n *yaml.Node) error {
	if n.Kind == yaml.ScalarNode && n.ShortTag() == "!!float" {
		if f, err := strconv.ParseFloat(n.Value, 64); err != nil || f != math.Trunc(f) {
			return fmt.Errorf("line %d: the number is not a whole number (if it is meant as a string, put it in quotes)", n.Line)
		}
	}
	for _, child := range n.Content {
		if err := checkNumbers(child); err != nil {
			return err
		}
	}
	return nil
}

// hideValues replaces the texts of the YAML library, which quote values.
func hideValues(err error) error {
	var failed *yaml.TypeError
	if !errors.As(err, &failed) {
		var instant *time.ParseError
		switch unknown := new(middleware.PlaintextPolicy).UnmarshalText(nil); {
		case errors.Is(err, unknown):
			return fmt.Errorf("plaintext: %w", unknown)
		case errors.As(err, &instant):
			return fmt.Errorf("plaintext_until: %w", wrongValue(reflect.TypeFor[time.Time]()))
		}
		return fmt.Errorf("%sthe YAML is not well formed", regexp.MustCompile(`line \d+: `).FindString(err.Error()))
	}
	errs := make([]error, len(failed.Errors))
	for i, text := range failed.Errors {
		errs[i] = hideValue(text)
	}
	return errors.Join(errs...)
}

func hideValue(text string) error {
	line := regexp.MustCompile(`^line \d+: `).FindString(text)
	if m := regexp.MustCompile(`^field (.*) already set in type [\w.]+$`).FindStringSubmatch(text[len(line):]); m != nil {
		return fmt.Errorf("%s%s is set twice", line, showName(m[1]))
	}
	if strings.HasPrefix(text[len(line):], "mapping key ") {
		return fmt.Errorf("%sthe same name is used twice in a section", line)
	}
	for _, t := range []reflect.Type{
		reflect.TypeFor[time.Duration](), reflect.TypeFor[time.Time](), reflect.TypeFor[bool](),
		reflect.TypeFor[int](), reflect.TypeFor[uint64](), reflect.TypeFor[string](), reflect.TypeFor[[]string](),
		reflect.TypeFor[middleware.PlaintextPolicy](),
	} {
		if strings.HasSuffix(text, " "+t.String()) {
			return fmt.Errorf("%s%w", line, wrongValue(t))
		}
	}
	return errors.New(line + "the value is not a group of settings (name: value)")
}
