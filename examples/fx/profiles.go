package main

import (
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"

	"github.com/eko/gocache/lib/v4/cache"
	"github.com/eko/gocache/lib/v4/store"

	"github.com/sealcache/sealcache/fxmodule"
	"github.com/sealcache/sealcache/middleware"
)

// Profile is a person's entry.
type Profile struct {
	Name  string `json:"name"`
	Email string `json:"email"`
}

type profiles struct {
	cache *cache.Cache[Profile]
	log   *slog.Logger
}

// newProfiles is the same with and without sealing.
func newProfiles(s store.StoreInterface, log *slog.Logger) *profiles {
	return &profiles{cache.New[Profile](s), log}
}

func mux(p *profiles, health *fxmodule.Health) *http.ServeMux {
	m := http.NewServeMux()
	m.HandleFunc("GET /profiles/{id}", p.get)
	m.HandleFunc("PUT /profiles/{id}", p.put)
	m.HandleFunc("GET /healthz", func(http.ResponseWriter, *http.Request) {}) // alive, without a check of anything else
	m.Handle("GET /readyz", health)
	return m
}

func (p *profiles) get(w http.ResponseWriter, r *http.Request) {
	profile, err := p.cache.Get(r.Context(), r.PathValue("id"))
	if err != nil {
		p.fail(w, r, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(profile) // an error means that the client is gone
}

func (p *profiles) put(w http.ResponseWriter, r *http.Request) {
	var profile Profile
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, 64<<10))
	d.DisallowUnknownFields()
	if err := d.Decode(&profile); err != nil {
		http.Error(w, "the body must be a JSON object with name and email", http.StatusBadRequest)
		return
	}
	if err := p.cache.Set(r.Context(), r.PathValue("id"), profile); err != nil {
		p.fail(w, r, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// fail logs the reason, which shows no key name or value. The client gets a shorter text.
func (p *profiles) fail(w http.ResponseWriter, r *http.Request, err error) {
	if errors.Is(err, store.NotFound{}) {
		http.Error(w, "there is no profile with this id", http.StatusNotFound)
		return
	}
	p.log.ErrorContext(r.Context(), "the cache could not read or write the profile", "error", err)
	switch {
	case errors.Is(err, middleware.ErrUnauthentic), errors.Is(err, middleware.ErrNotSealed), errors.Is(err, middleware.ErrUnknownKey):
		http.Error(w, "the profile cannot be read", http.StatusInternalServerError)
	default:
		http.Error(w, "the cache does not answer; try again later", http.StatusServiceUnavailable)
	}
}
