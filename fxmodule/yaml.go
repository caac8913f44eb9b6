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

	"github.com/sealcache/sealcache/middleware"
)

// maxYAMLBytes bounds a settings file: 1 MiB.
const maxYAMLBytes = 1 << 20

// ConfigFromYAML reads the Config from one YAML document. docs/fx.md has an example. Unknown and repeated settings, further
// documents and durations without a unit are errors. Errors name lines and settings but no values. The result is validated.
func ConfigFromYAML(r io.Reader) (Config, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxYAMLBytes+1))
	if err != nil {
		return Config{}, fmt.Errorf("fxmodule: YAML: cannot read: %w", err)
	}
	if len(data) > maxYAMLBytes {
		return Config{}, fmt.Errorf("fxmodule: YAML: the text has more than %d bytes", maxYAMLBytes)
	}
	var c Config
	if err := decodeYAML(data, &c); err != nil {
		return Config{}, fmt.Errorf("fxmodule: YAML: %w", err)
	}
	if err := c.Validate(); err != nil {
		return Config{}, err
	}
	return c, nil
}

// UnmarshalYAML reads a Config that is a section of an application's own settings, as strictly as ConfigFromYAML. Aliases and
// merges may refer to the rest of the file. With what they refer to, a section has at most 1 MiB. It does not validate; the module does. Lines in its errors count from the section's
// first one.
func (c *Config) UnmarshalYAML(n *yaml.Node) error {
	e := expansion{left: maxYAMLBytes, within: map[*yaml.Node]bool{}}
	section, err := e.node(n, false)
	if err != nil {
		return fmt.Errorf("fxmodule: YAML: section at line %d: %w", n.Line, err)
	}
	data, err := yaml.Marshal(section)
	if err != nil {
		return fmt.Errorf("fxmodule: YAML: line %d: %w", n.Line, hideValues(err))
	}
	*c = Config{}
	if err := decodeYAML(data, c); err != nil {
		return fmt.Errorf("fxmodule: YAML: section at line %d: %w", n.Line, err)
	}
	return nil
}

// expansion copies a section with the nodes to which its aliases refer. It is bounded, because a few aliases of aliases can
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

// node copies n. A node in the place of an alias takes one line, so that the lines of the section count as they stand in the file.
func (e *expansion) node(n *yaml.Node, aliased bool) (*yaml.Node, error) {
	if n.Kind == yaml.AliasNode {
		n, aliased = n.Alias, true
	}
	if e.left -= len(n.Value) + len(n.Tag) + nodeBytes; e.left < 0 {
		return nil, fmt.Errorf("the section and its aliases have more than %d bytes", maxYAMLBytes)
	}
	if e.within[n] {
		return nil, fmt.Errorf("the anchor at line %d of the file contains itself", n.Line)
	}
	if e.depth++; e.depth > maxYAMLDepth {
		return nil, fmt.Errorf("the section and its aliases have more than %d levels", maxYAMLDepth)
	}
	e.within[n] = true
	defer func() { delete(e.within, n); e.depth-- }()
	c := *n
	c.Anchor, c.Content = "", slices.Clone(n.Content)
	if aliased {
		c.HeadComment, c.LineComment, c.FootComment = "", "", ""
		if n.Kind != yaml.ScalarNode {
			c.Style |= yaml.FlowStyle
		} else if tag := n.ShortTag(); tag == "!!null" || tag == "!!timestamp" {
			c.Style |= yaml.TaggedStyle // the flow style puts such a value into quotes
		}
	}
	for i := range c.Content {
		var err error
		if c.Content[i], err = e.node(c.Content[i], aliased); err != nil {
			return nil, err
		}
	}
	return &c, nil
}

func decodeYAML(data []byte, c *Config) error {
	type fields Config // without UnmarshalYAML
	var root yaml.Node
	if err := yaml.NewDecoder(bytes.NewReader(data)).Decode(&root); err == nil {
		if err := checkNumbers(&root); err != nil {
			return err
		}
	}
	d := yaml.NewDecoder(bytes.NewReader(data))
	d.KnownFields(true)
	switch err := d.Decode((*fields)(c)); {
	case errors.Is(err, io.EOF):
		return errors.New("the text is empty (give at least the section \"caches\")")
	case err != nil:
		return hideValues(err)
	}
	if err := d.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return errors.New("the text has more than one YAML document")
	}
	return nil
}

// checkNumbers refuses fractions. No setting has one, and the YAML library cuts a fraction off where a whole number is
// expected: 0.5 would be 0, the default.
func checkNumbers(n *yaml.Node) error {
	if n.Kind == yaml.ScalarNode && n.ShortTag() == "!!float" {
		if f, err := strconv.ParseFloat(n.Value, 64); err != nil || f != math.Trunc(f) {
			return fmt.Errorf("line %d: the value must be a whole number, or text in quotes", n.Line)
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
	if m := regexp.MustCompile(`^field (.*) (not found|already set) in type [\w.]+$`).FindStringSubmatch(text[len(line):]); m != nil {
		name := showName(m[1]) // a line such as "store redis://..." without its colon is not a name
		if m[2] == "not found" {
			return fmt.Errorf("%sunknown setting %s", line, name)
		}
		return fmt.Errorf("%s%s is set twice", line, name)
	}
	if strings.HasPrefix(text[len(line):], "mapping key ") {
		return fmt.Errorf("%sthe same name is used twice in a section", line)
	}
	for _, t := range []reflect.Type{
		reflect.TypeFor[time.Duration](), reflect.TypeFor[time.Time](), reflect.TypeFor[bool](),
		reflect.TypeFor[int](), reflect.TypeFor[uint64](), reflect.TypeFor[string](),
	} {
		if strings.HasSuffix(text, " "+t.String()) {
			return fmt.Errorf("%s%w", line, wrongValue(t))
		}
	}
	return errors.New(line + "the value is not a group of settings (name: value)")
}
