package main

import (
	"html/template"
	"net/http"
	"time"

	"github.com/alexedwards/scs/v2"

	"github.com/sealcache/sealcache/middleware/sessions"
)

// application is the pages. A real application checks a password at login.
type application struct {
	manager *scs.SessionManager
	store   *sessions.Store
	page    *template.Template
}

func newApplication(store *sessions.Store) http.Handler {
	m := scs.New()
	m.Store = store
	m.Lifetime = 12 * time.Hour
	m.Cookie.SameSite = http.SameSiteLaxMode
	a := &application{m, store, template.Must(template.New("").Parse(page))}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", a.home)
	mux.HandleFunc("POST /login", a.login)
	mux.HandleFunc("POST /logout", a.logout)
	mux.HandleFunc("POST /logout-everywhere", a.logoutEverywhere)
	return http.NewCrossOriginProtection().Handler(m.LoadAndSave(mux))
}

const page = `<!doctype html><title>Sealed sessions</title>
{{if .}}<p>You are {{.}}.</p>
<form method="post" action="/logout"><button>Log out</button></form>
<form method="post" action="/logout-everywhere"><button>Log out everywhere</button></form>
{{else}}<form method="post" action="/login"><input name="user" placeholder="your name" required> <button>Log in</button></form>
{{end}}`

func (a *application) home(w http.ResponseWriter, r *http.Request) {
	_ = a.page.Execute(w, a.manager.GetString(r.Context(), "user"))
}

func (a *application) login(w http.ResponseWriter, r *http.Request) {
	// A new token, so that one from before the login is worth nothing.
	if err := a.manager.RenewToken(r.Context()); err != nil {
		fail(w)
		return
	}
	a.manager.Put(r.Context(), "user", r.PostFormValue("user"))
	http.Redirect(w, r, "/", http.StatusSeeOther)
}

func (a *application) logout(w http.ResponseWriter, r *http.Request) {
	if err := a.manager.Destroy(r.Context()); err != nil {
		fail(w)
		return
	}
	http.Redirect(w, r, "/", http.StatusSeeOther)
}

func (a *application) logoutEverywhere(w http.ResponseWriter, r *http.Request) {
	user := a.manager.GetString(r.Context(), "user")
	if err := a.manager.Destroy(r.Context()); err != nil {
		fail(w)
		return
	}
	if user != "" {
		if err := a.store.EndAll(r.Context(), user); err != nil {
			fail(w)
			return
		}
	}
	http.Redirect(w, r, "/", http.StatusSeeOther)
}

func fail(w http.ResponseWriter) {
	http.Error(w, "The session store does not answer. Try again.", http.StatusServiceUnavailable)
}
