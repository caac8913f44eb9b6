package monitor

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"html"
	"net/http"
	"net/url"
	"path"
	"regexp"
	"strings"

	"github.com/sealcache/sealcache/middleware/internal/asynqwire"
)

// page is asynqmon's single page with the files that it loads, with or without actions.
type page struct {
	next http.Handler // asynqmon

	index      []byte // as asynqmon renders it
	head, body []byte // what is served, before and after the head's own additions
	root       []byte // what is served after the banner
	scripts    string // sources of inline scripts for the content security policy
}

const maxIndexBytes = 1 << 20

// newPage renders asynqmon's index once. The page loads nothing from other hosts, and its content
// security policy names each inline script by its hash. If the index of another release of asynqmon
// has a different form, newPage returns an error.
func newPage(root string, next http.Handler) (*page, error) {
	p := &page{next: next}
	c := newCapture(maxIndexBytes)
	next.ServeHTTP(c, &http.Request{Method: http.MethodGet, URL: &url.URL{Path: root + "/"}, Header: http.Header{}})
	switch {
	case c.code() != http.StatusOK:
		return nil, fmt.Errorf("asynqmon returned status %d for its page (use the asynqmon release in sealcache's go.mod)", c.code())
	case c.over:
		return nil, fmt.Errorf("asynqmon's page has more than %d bytes (use the asynqmon release in sealcache's go.mod)", maxIndexBytes)
	}
	p.index = bytes.Clone(c.body.Bytes())

	served := regexp.MustCompile(`<link rel="stylesheet" href="https://fonts\.googleapis\.com/[^"]*"/>`).ReplaceAll(p.index, nil)
	if regexp.MustCompile(`(?i)(?:src|href|action)\s*=\s*["']?\s*(?:[a-z][a-z0-9+.-]*:|//)`).Match(served) {
		return nil, errors.New("asynqmon's page loads a file from another host (use the asynqmon release in sealcache's go.mod)")
	}
	var sources []string
	for _, m := range regexp.MustCompile(`(?s)<script>(.*?)</script>`).FindAllSubmatch(served, -1) {
		sum := sha256.Sum256(m[1])
		sources = append(sources, "'sha256-"+base64.StdEncoding.EncodeToString(sum[:])+"'")
	}
	p.scripts = strings.Join(sources, " ")
	head, rest, ok1 := bytes.Cut(served, []byte("</head>"))
	body, _, ok2 := bytes.Cut(rest, []byte(rootElement))
	if !ok1 || !ok2 || len(sources) == 0 {
		return nil, errors.New("asynqmon's page has an unknown layout (use the asynqmon release in sealcache's go.mod)")
	}
	p.head, p.body, p.root = head, body, rest[len(body):]
	return p, nil
}

// serve serves a file of the page, or the page itself for every other path, because the
// page has its own router.
func (p *page) serve(w http.ResponseWriter, r *http.Request, rel string, v *Viewer) {
	kind, isFile := fileType(rel)
	if isFile {
		c := newCapture(maxAnswerBytes)
		p.next.ServeHTTP(c, r)
		isFile = c.code() == http.StatusOK && !c.over && !bytes.Equal(c.body.Bytes(), p.index)
		if isFile {
			w.Header().Set("Content-Type", kind)
			if r.Method != http.MethodHead {
				_, _ = w.Write(wholeIDs(c.body.Bytes())) // a failed write has no reader
			}
			return
		}
	}
	nonce := rand.Text()
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Security-Policy", "default-src 'none'; script-src 'self' "+p.scripts+
		"; style-src 'self' 'nonce-"+nonce+"'; img-src 'self' data:; font-src 'self'; connect-src 'self'; manifest-src 'self'"+
		"; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
	if r.Method == http.MethodHead {
		return
	}
	var b bytes.Buffer
	b.Write(p.head)
	fmt.Fprintf(&b, `<meta property="csp-nonce" content="%[1]s"/><style nonce="%[1]s">%[2]s</style></head>`, nonce, style)
	b.Write(p.body)
	b.WriteString(banner(v))
	b.Write(p.root)
	_, _ = w.Write(b.Bytes()) // a failed write has no reader
}

// rootElement is where asynqmon's scripts build the page.
const rootElement = `<div id="root">`

// banner explains to viewers without access to payloads why they see none.
func banner(v *Viewer) string {
	if v.access() >= AccessPayloads {
		return ""
	}
	viewer := "not identified"
	if v.Name != "" {
		viewer = v.Name
	}
	return fmt.Sprintf(`<div class="sealcache-banner" role="note">Payloads are withheld: you are %s, with access to %s.</div>`,
		html.EscapeString(asynqwire.Shorten(viewer, maxRefusedName)), v.access())
}

// style places the banner, and fits the page into narrow windows. There, asynqmon's
// navigation shows icons only, tables scroll, and the items of a row stand below each
// other.
const style = `.sealcache-banner{position:fixed;bottom:0;left:0;right:0;z-index:1400;padding:6px 12px;` +
	`background:#fff3cd;color:#4d3b00;font:14px/1.4 sans-serif;text-align:center}` +
	`body{padding-bottom:34px}.sealcache-banner~#root .MuiDrawer-paper{height:calc(100% - 34px)}` +
	`@media(max-width:600px){` +
	`.MuiDrawer-root,.MuiDrawer-paper{width:56px!important;min-width:0!important;overflow-x:hidden}` +
	`main{min-width:0}` +
	`.MuiContainer-root{padding-left:8px!important;padding-right:8px!important}` +
	`.MuiGrid-item{flex-basis:100%!important;max-width:100%!important}` +
	`.MuiTableContainer-root,.MuiPaper-root{max-width:100%}` +
	`.MuiTableContainer-root{overflow-x:auto}` +
	`}`

// wholeIDs changes a script of asynqmon so that lists cut only ids that start like a
// UUID. asynqmon cuts every id at its first "-", so that "order-1" and "order-2" look
// the same.
func wholeIDs(script []byte) []byte {
	const cuts = `{var t=e.indexOf("-");return-1===t?e:e.substr(0,t)}`
	const cutsUUIDs = `{return/^[0-9a-f]{8}-/.test(e)?e.substr(0,8):e}`
	return bytes.Replace(script, []byte(cuts), []byte(cutsUUIDs), 1)
}

// fileType returns the content type of a file of asynqmon, which sets it for scripts
// only.
func fileType(rel string) (string, bool) {
	switch path.Ext(rel) {
	case ".js":
		return "text/javascript; charset=utf-8", true
	case ".json", ".map":
		return "application/json", true
	case ".png":
		return "image/png", true
	case ".ico":
		return "image/x-icon", true
	case ".svg":
		return "image/svg+xml", true
	case ".txt":
		return "text/plain; charset=utf-8", true
	default:
		return "", false
	}
}
