package rediswalk

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Rate and remaining time follow the run. They are empty while there is too little data.
func TestPace(t *testing.T) {
	t.Parallel()
	var p Pace
	rate, left := p.Update(0, 0, 0)
	require.Zero(t, rate)
	require.Zero(t, left)
	for i := 1; i <= 10; i++ {
		rate, left = p.Update(time.Duration(i)*time.Second, int64(i)*1000, float64(i)/100)
	}
	require.InDelta(t, 1000, rate, 1)
	require.InDelta(t, 90*time.Second, left, float64(time.Second))
}

// Redis counts cursors in reversed bits, which give the position of a scan.
func TestFraction(t *testing.T) {
	t.Parallel()
	w := &Walk[int]{Tracks: []*Track[int]{{}, {Position: Position[int]{Done: true}}}}
	require.InDelta(t, 0.5, w.Fraction(), 1e-9)
	for i, cursor := range []uint64{0, 4, 2, 6, 1, 5, 3, 7} { // a table of eight buckets, in the order of a scan
		w := &Walk[int]{Tracks: []*Track[int]{{Position: Position[int]{Cursor: cursor}}}}
		require.InDelta(t, float64(i)/8, w.Fraction(), 1e-9)
	}
	require.Zero(t, (&Walk[int]{}).Fraction())
}
