package migrate

import (
	"maps"
	"reflect"
	"testing"

	"github.com/stretchr/testify/require"
)

// filledCounts returns Counts in which no field is zero.
func filledCounts(t *testing.T, from int64) *Counts {
	t.Helper()
	c := new(Counts)
	v := reflect.ValueOf(c).Elem()
	for i := range v.NumField() {
		switch f := v.Field(i).Addr().Interface().(type) {
		case *int64:
			*f = from + int64(i)
		case *map[string]int64:
			*f = map[string]int64{"list": from + int64(i), "zset": from}
		default:
			t.Fatalf("Counts.add does not know the type of the field %s", v.Type().Field(i).Name)
		}
	}
	return c
}

// A new field of Counts is added, and is either work or state.
func TestCountsAddEveryField(t *testing.T) {
	t.Parallel()
	sum, o := filledCounts(t, 1), filledCounts(t, 1000)
	before, other := sum.clone(), o.clone()
	sum.add(o)
	require.Equal(t, &other, o)
	got, a, b := reflect.ValueOf(*sum), reflect.ValueOf(before), reflect.ValueOf(other)
	for i := range got.NumField() {
		name := got.Type().Field(i).Name
		if got.Field(i).CanInt() {
			require.Equal(t, a.Field(i).Int()+b.Field(i).Int(), got.Field(i).Int(), name)
			continue
		}
		want := maps.Clone(before.OtherTypes)
		for kind, n := range other.OtherTypes {
			want[kind] += n
		}
		require.Equal(t, want, got.Field(i).Interface(), name)
	}

	split := o.state()
	split.add(o.work())
	require.Equal(t, o, split)
	state, work := reflect.ValueOf(*o.state()), reflect.ValueOf(*o.work())
	for i := range got.NumField() {
		require.NotEqual(t, state.Field(i).IsZero(), work.Field(i).IsZero(), got.Type().Field(i).Name)
	}
}
