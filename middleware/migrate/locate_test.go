package migrate

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/middleware/internal/rediswalk"
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
		{Space{Namespace: "n"}, nil, "m:k", nameOutside, place{}},
		{Space{Namespace: "n", Prefix: "u:"}, &Space{Namespace: "m", Prefix: "v:"}, "n:u:1", nameTaken, place{"u:1", "v:1", "m:v:1"}},
		{Space{}, &Space{Namespace: "n"}, "k", nameTaken, place{"k", "k", "n:k"}},
		{Space{}, &Space{Namespace: "n"}, "n:k", nameArrived, place{}},
		{Space{Prefix: "n:"}, &Space{Namespace: "n"}, "n:k", nameTaken, place{"n:k", "k", "n:k"}},
		{Space{Namespace: "n"}, &Space{}, "n:n:k", nameMovesAgain, place{}},
		{Space{}, nil, "asynq:{q}:t:1", nameReserved, place{}},
		{Space{}, nil, "sealcache.key-check", nameReserved, place{}},
		{Space{}, nil, "n:sealcache.key-check", nameReserved, place{}},
		{Space{Namespace: "n"}, nil, "n:sealcache.key-check", nameReserved, place{}},
		{Space{}, nil, "sealcache.runs", nameReserved, place{}},
		{Space{}, nil, "count:1", nameExcluded, place{}},
	} {
		config := Config{From: c.from, To: c.to, Exclude: []string{"count:"}, Stored: c.from == Space{}}
		exclude := new(rediswalk.Filter)
		if config.Stored {
			var err error
			exclude, err = config.excluded()
			require.NoError(t, err)
		}
		got, verdict := config.locate(exclude, c.name)
		require.Equal(t, c.verdict, verdict, c.name)
		if verdict == nameTaken {
			require.Equal(t, c.want, got)
		}
	}
}
