package fxmodule

import (
	"context"
	"errors"
	"time"

	"github.com/eko/gocache/lib/v4/store"
)

// absentStore is what ProvideDefault gives decorate to replace. It does nothing but say that Module is missing.
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
