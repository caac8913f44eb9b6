package monitor

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"path"
	"regexp"
	"strings"
)

// page is asynqmon's single page and what it loads, with or without actions.
type page struct {
	next http.Handler // asynqmon

	index      []byte // as asynqmon renders it
	head, tail []byte // what is served, around the nonce
	scripts    string // sources of inline scripts for the content security policy
}

const maxIndexBytes = 1 << 20

// newPage renders asynqmon's index once and makes it ready to be served without any
// request to another host, and without inline code that is not named by its hash. It
// is an error if a release of asynqmon has an index for which that is not so.
func newPage(root string, next http.Handler) (*page, error) {
	p := &page{next: next}
	c := newCapture(maxIndexBytes)
	next.ServeHTTP(c, &http.Request{Method: http.MethodGet, URL: &url.URL{Path: root + "/"}, Header: http.Header{}})
	if c.code() != http.StatusOK || c.over {
		return nil, fmt.Errorf("asynqmon's page cannot be rendered: status %d", c.code())
	}
	p.index = bytes.Clone(c.body.Bytes())

	served := regexp.MustCompile(`<link rel="stylesheet" href="https://fonts\.googleapis\.com/[^"]*"/>`).ReplaceAll(p.index, nil)
	if regexp.MustCompile(`(?i)(?:src|href|action)\s*=\s*["']?\s*(?:[a-z][a-z0-9+.-]*:|//)`).Match(served) {
		return nil, errors.New("asynqmon's page refers to another host")
	}
	var sources []string
	for _, m := range regexp.MustCompile(`(?s)<script>(.*?)</script>`).FindAllSubmatch(served, -1) {
		sum := sha256.Sum256(m[1])
		sources = append(sources, "'sha256-"+base64.StdEncoding.EncodeToString(sum[:])+"'")
	}
	p.scripts = strings.Join(sources, " ")
	// The library of the page's styles takes the nonce for them from here.
	const before, after = `<meta property="csp-nonce" content="`, `"/></head>`
	head, tail, ok := bytes.Cut(served, []byte("</head>"))
	if !ok || len(sources) == 0 {
		return nil, errors.New("asynqmon's page is not of the expected form")
	}
	p.head = append(bytes.Clone(head), before...)
	p.tail = append([]byte(after), tail...)
	return p, nil
}

// serve serves a file of the page, or the page itself for every other path: it has
// its own router.
func (p *page) serve(w http.ResponseWriter, r *http.Request, rel string) {
	kind, isFile := fileType(rel)
	if isFile {
		c := newCapture(maxAnswerBytes)
		p.next.ServeHTTP(c, r)
		isFile = c.code() == http.StatusOK && !c.over && !bytes.Equal(c.body.Bytes(), p.index)
		if isFile {
			w.Header().Set("Content-Type", kind)
			if r.Method != http.MethodHead {
				_, _ = w.Write(c.body.Bytes()) // there is nobody left to tell
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
	_, _ = w.Write(bytes.Join([][]byte{p.head, p.tail}, []byte(nonce)))
}

// fileType tells what asynqmon's files are; it says so of scripts only.
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
