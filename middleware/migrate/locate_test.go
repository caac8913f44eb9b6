package migrate

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestLocate(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		from    Space
		to      *Space
		name    string
		verdict nameVerdict
		want    place
	}{
		{Space{}, nil, "k", nameTaken, place{"k", "k", "k"}},
		{Space{Namespace: "n"}, nil, "n:k", nameTaken, place{"k", "k", "n:k"}},
		{Space{Namespace: "n"}, nil, "m:k", nameForeign, place{}},
		{Space{Namespace: "n", Prefix: "u:"}, &Space{Namespace: "m", Prefix: "v:"}, "n:u:1", nameTaken, place{"u:1", "v:1", "m:v:1"}},
		{Space{}, &Space{Namespace: "n"}, "k", nameTaken, place{"k", "k", "n:k"}},
		{Space{}, &Space{Namespace: "n"}, "n:k", nameArrived, place{}},
		{Space{Prefix: "n:"}, &Space{Namespace: "n"}, "n:k", nameTaken, place{"n:k", "k", "n:k"}},
		{Space{Namespace: "n"}, &Space{}, "n:n:k", nameTwisted, place{}},
		{Space{}, nil, "asynq:{q}:t:1", nameExcluded, place{}},
		{Space{}, nil, "count:1", nameExcluded, place{}},
	} {
		config := Config{From: c.from, To: c.to, Exclude: []string{"count:"}}
		got, verdict := config.locate(c.name)
		require.Equal(t, c.verdict, verdict, c.name)
		if verdict == nameTaken {
			require.Equal(t, c.want, got)
		}
	}
}
