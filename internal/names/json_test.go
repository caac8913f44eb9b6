package names_test

import (
	"encoding/json"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/internal/names"
)

// Names that differ have forms that differ after JSON, and each form gives its name back.
func TestJSON(t *testing.T) {
	t.Parallel()
	all := []string{
		"", "shop:1", "a b", "é", "\ufffd", `\xff`, `a"`, "<a>&\u2028", "a\x00\n",
		"\xff", "\xfe", "a\xff", "a\xfe", "a\ufffd", "\xc3", `"`, `""`, `"a"`, `"\xff"`, strconv.Quote("\xff"), strconv.Quote(strconv.Quote("\xff")), "\"\xff",
	}
	forms := make(map[string]string)
	for _, name := range all {
		data, err := json.Marshal(names.JSON(name))
		require.NoError(t, err)
		var form string
		require.NoError(t, json.Unmarshal(data, &form))
		back := form
		if strings.HasPrefix(form, `"`) {
			back, err = strconv.Unquote(form)
			require.NoError(t, err)
		}
		require.Equal(t, name, back)
		if other, ok := forms[form]; ok {
			require.Equal(t, other, name, "%q", form)
		}
		forms[form] = name
	}
	require.Equal(t, []string{"shop:1", `"a\xff"`, `"\"a\""`}, names.AllJSON([]string{"shop:1", "a\xff", `"a"`}))
	require.Nil(t, names.AllJSON(nil))
}
