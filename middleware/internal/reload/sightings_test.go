package reload_test

import (
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sealcache/sealcache/middleware/internal/reload"
)

// A value is a name with its bytes, however the two are divided.
func TestSightings(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := new(counter).reloader()
		first := r.Refused("name", []byte("value"))
		if !first.Since.Equal(time.Now()) {
			t.Errorf("first refused at %v", first.Since)
		}
		time.Sleep(time.Hour)
		if again := r.Refused("name", []byte("value")); again != first {
			t.Errorf("refused at %v, and again at %v", first.Since, again.Since)
		}
		for _, other := range [][2]string{{"name", "other"}, {"other", "value"}, {"namev", "alue"}, {"", "namevalue"}, {"namevalue", ""}} {
			if s := r.Refused(other[0], []byte(other[1])); !s.Since.Equal(time.Now()) {
				t.Errorf("%q was refused at %v", other, s.Since)
			}
		}
		r.Opened(first)
		r.Opened(first)
		if s := r.Refused("name", []byte("value")); !s.Since.Equal(time.Now()) {
			t.Errorf("a value that was opened was refused at %v", s.Since)
		}
	})
	var none *reload.Reloader
	none.Opened(none.Refused("name", nil))
}

// Callers that go through more values than are remembered, again and again in one order, find many of them.
func TestSightingsAreBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := new(counter).reloader()
		pass := func() (known int) {
			for i := range 10_000 {
				if s := r.Refused(fmt.Sprint(i), nil); !s.Since.Equal(time.Now()) {
					known++
				}
			}
			return known
		}
		pass()
		time.Sleep(time.Second)
		if n := pass(); n < 1000 || n > reload.MaxSightings {
			t.Errorf("%d of 10000 values are remembered", n)
		}
	})
}

func TestSightingsConcurrently(t *testing.T) {
	t.Parallel()
	r := new(counter).reloader()
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for i := range 10_000 {
				s := r.Refused(fmt.Sprint(i%2000), nil)
				if i%3 == 0 {
					r.Opened(s)
				}
			}
		})
	}
	wg.Wait()
}
