package names

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

// JSON returns the form of a stored name in JSON reports. A name that is not valid UTF-8 or starts with a quotation mark has the
// form of strconv.Quote, because encoding/json writes each invalid byte as U+FFFD. Other names are unchanged. Therefore different
// names have different forms, and strconv.Unquote reads each form that starts with a quotation mark.
func JSON(name string) string {
	if !utf8.ValidString(name) || strings.HasPrefix(name, `"`) {
		return strconv.Quote(name)
	}
	return name
}

// AllJSON returns the JSON of each name. It returns nil for nil.
func AllJSON(all []string) []string {
	if all == nil {
		return nil
	}
	forms := make([]string, len(all))
	for i, name := range all {
		forms[i] = JSON(name)
	}
	return forms
}
