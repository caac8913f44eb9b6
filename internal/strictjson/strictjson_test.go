package strictjson_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/internal/strictjson"
)

func TestUnmarshal(t *testing.T) {
	t.Parallel()
	type inner struct {
		A int `json:"a"`
	}
	var v struct {
		List []inner `json:"list"`
	}
	require.NoError(t, strictjson.Unmarshal([]byte(" {\"list\": [{\"a\": 1}]}\n"), &v))
	require.Equal(t, []inner{{1}}, v.List)
	for _, text := range []string{"", " ", `{"more": 1}`, `{"list": [{"a": 1, "b": 2}]}`, `{} {}`, `{} x`, `{}}`, `{`, `[]`} {
		require.Error(t, strictjson.Unmarshal([]byte(text), &v), text)
	}
}
