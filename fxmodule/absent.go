package fxmodule

import (
	"context"
	"errors"
	"time"

	"github.com/eko/gocache/lib/v4/store"
)

// absentStore is the unnamed store.StoreInterface where the Config has no default cache and the application no store
// of its own. A decorator, once listed, has to return one: this one does nothing but say what is missing.
// ProvideDefault gives decorate one to replace.
type absentStore struct{ err error }

var errUndecorated = errors.New("fxmodule: ProvideDefault is listed without Module")

var _ store.StoreInterface = absentStore{}

func (s absentStore) Get(context.Context, any) (any, error) { return nil, s.err }

func (s absentStore) GetWithTTL(context.Context, any) (any, time.Duration, error) {
	return nil, 0, s.err
}

func (s absentStore) Set(context.Context, any, any, ...store.Option) error { return s.err }

func (s absentStore) Delete(context.Context, any) error { return s.err }

func (s absentStore) Invalidate(context.Context, ...store.InvalidateOption) error { return s.err }

func (s absentStore) Clear(context.Context) error { return s.err }

func (s absentStore) GetType() string { return "none" }
