package sessions_test

import (
	"context"
	"fmt"
	"log"
	"time"

	"github.com/alexedwards/scs/v2"

	"github.com/sealcache/sealcache/middleware"
	"github.com/sealcache/sealcache/middleware/sessions"
)

// The function of WithUser decodes the session with scs's codec. It must not call the manager.
func ExampleWithUser() {
	var sealed *middleware.Store // middleware.New(..., middleware.WithOneWayKeys(set))
	store, err := sessions.New(sealed, sessions.WithUser(func(_ context.Context, encoded []byte) (string, error) {
		_, values, err := scs.GobCodec{}.Decode(encoded)
		user, _ := values["user"].(string)
		return user, err
	}))
	if err != nil {
		log.Print(err)
		return
	}
	manager := scs.New()
	manager.Store = store
	manager.Lifetime = 12 * time.Hour
	if err := store.EndAll(context.Background(), "alice"); err != nil {
		fmt.Println(err)
	}
}
