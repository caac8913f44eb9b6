package fxmodule

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sealcache/sealcache/middleware"
)

// hidden is shown in place of a secret.
const hidden = "..."

// setting is a field of Cache or Jobs whose value is not the zero value.
type setting struct {
	name     string // such as data_keys.ttl
	text     string // contains no secret
	negative bool
}

// settingsOf returns the settings of group, a Cache or Jobs, in the order of its fields.
func settingsOf(group any) []setting { return appendSettings(nil, "", reflect.ValueOf(group)) }

func appendSettings(s []setting, prefix string, group reflect.Value) []setting {
	for i := range group.NumField() {
		field, v := group.Type().Field(i), group.Field(i)
		name := field.Tag.Get("yaml")
		if name == "-" { // set in code only
			name = strings.ToLower(field.Name)
		}
		switch {
		case isZero(v):
		case v.Kind() == reflect.Struct && v.Type() != reflect.TypeFor[time.Time]():
			s = appendSettings(s, prefix+name+".", v)
		default:
			s = append(s, setting{prefix + name, showValue(v, field.Tag.Get("show")), isNegative(v)})
		}
	}
	return s
}

func isZero(v reflect.Value) bool {
	if t, ok := v.Interface().(time.Time); ok {
		return t.IsZero() // in any location
	}
	if v.Kind() == reflect.Map || v.Kind() == reflect.Slice {
		return v.Len() == 0
	}
	return v.IsZero()
}

// isNegative reports whether v is a negative number or duration. A PlaintextPolicy has a check with a better error.
func isNegative(v reflect.Value) bool {
	return v.CanInt() && v.Int() < 0 && v.Type() != reflect.TypeFor[middleware.PlaintextPolicy]()
}

// showValue returns a value as it may be shown. The tag "show" of a field says which part of its text is no secret. Text
// without this tag is hidden, and so are the types that are not listed here. A new setting is therefore hidden at first.
func showValue(v reflect.Value, show string) string {
	switch value := v.Interface().(type) {
	case bool, int, uint64, time.Duration, middleware.PlaintextPolicy:
		return fmt.Sprint(value)
	case time.Time:
		return value.Format(time.RFC3339)
	case string:
		return showText(value, show)
	case []string:
		var texts []string
		for _, text := range value {
			texts = append(texts, showText(text, show))
		}
		return "[" + strings.Join(texts, ", ") + "]"
	case map[string]int:
		var texts []string
		for _, name := range slices.Sorted(maps.Keys(value)) {
			texts = append(texts, showText(name, show)+": "+strconv.Itoa(value[name]))
		}
		return "{" + strings.Join(texts, ", ") + "}"
	case map[string]string, []middleware.Codec:
		return strconv.Itoa(v.Len())
	}
	return hidden
}

// showText returns the part of a text that the tag "show" calls no secret: a valid name, the scheme of a URL or URI, or
// whether a keyset is in a file or a variable.
func showText(text, show string) string {
	switch show {
	case "name":
		return showName(text)
	case "scheme":
		return showScheme(text)
	case "source":
		return showSource(text)
	}
	return hidden
}
