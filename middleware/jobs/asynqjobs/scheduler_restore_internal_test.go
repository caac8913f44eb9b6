package asynqjobs

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Redis goes back to an older schedule of a name, and other schedules change before it opens. The later registration still counts.
func TestOlderScheduleIsDoubtfulUntilItOpens(t *testing.T) {
	t.Parallel()
	stored := map[string]string{"field": "sealed"}
	older := &definition{Name: "a", Spec: "@hourly", Seed: []byte("1"), Anchor: 1}
	newer := &definition{Name: "a", Spec: "@daily", Seed: []byte("2"), Anchor: 2}
	unknown := func(string) bool { return false }
	goBack := func() *registrations {
		g := newRegistrations()
		g.compare(parseVersion("G 1 x"), nil, unknown, true)
		g.changed("G 1 x", "G 2 y x")
		g.add(newer, []string{"field"}, parseVersion("G 2 y x"))
		g.compare(parseVersion("G 2 y x"), stored, unknown, true)
		g.compare(parseVersion("H 1 z"), stored, unknown, false)
		return g
	}

	g := goBack()
	g.compare(parseVersion("H 2 w z"), stored, unknown, false)
	old := entry{field: "field", raw: "sealed", def: older}
	require.Equal(t, []entry{old}, g.review([]entry{old}, nil, time.Now()))
	def, _ := g.registeredAs("a")
	require.Equal(t, newer, def)

	g = goBack() // and another process ends the older one again
	g.compare(parseVersion("H 2 w z"), nil, unknown, true)
	require.Len(t, g.lostOnes(), 1)
	g.found("a")
	g.compare(parseVersion("H 3 v w z"), nil, unknown, true)
	require.Empty(t, g.lostOnes(), "put back once")
}
