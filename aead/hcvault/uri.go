package hcvault

import (
	"errors"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/hashicorp/vault/api"
)

// target is a parsed URI.
type target struct {
	host        string // empty: VAULT_ADDR
	mount, key  string
	namespace   string
	auth        authParameters
	decryptOnly bool
}

// authParameters are the parameters of a URI that choose a login.
type authParameters struct {
	given        bool
	method       string
	mount        string
	role         string
	roleID       string
	secretIDFile string
	secretIDEnv  string
	jwtFile      string
	tokenFile    string
}

// validSegment is a path segment that Vault accepts as the name of a transit key or of a mount. It means the same with and
// without escaping.
func validSegment(s string) bool {
	return regexp.MustCompile(`^\w([\w.-]*\w)?$`).MatchString(s)
}

func validPath(s string) bool {
	for part := range strings.SplitSeq(s, "/") {
		if !validSegment(part) {
			return false
		}
	}
	return true
}

// parseURI reads hcvault://host/mount/keys/name. Its errors do not quote the URI, in which a user may have put a secret.
func parseURI(uri string) (target, error) {
	u, err := url.Parse(uri)
	if err != nil || !strings.Contains(uri, "://") || u.Opaque != "" || u.User != nil || u.Fragment != "" {
		return target{}, errForm
	}
	t := target{host: u.Host}
	path, found := strings.CutPrefix(u.EscapedPath(), "/")
	i := strings.LastIndex(path, "/keys/")
	if !found || i < 0 {
		return target{}, errForm
	}
	t.mount, t.key = path[:i], path[i+len("/keys/"):]
	if !validPath(t.mount) || !validSegment(t.key) {
		return target{}, errForm
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return target{}, errors.New("the parameters after '?' in the URI are malformed")
	}
	for name, values := range query {
		if len(values) != 1 || values[0] == "" || !t.set(name, values[0]) {
			return target{}, errors.New("the URI has an unknown, empty, repeated or invalid parameter (docs/keyservices.md has the list)")
		}
	}
	return t, t.auth.check()
}

var errForm = errors.New("the URI must be hcvault://host/mount/keys/name or hcvault:///mount/keys/name")

// set stores one parameter and reports whether it is known and well formed.
func (t *target) set(name, value string) bool {
	a := &t.auth
	switch name {
	case "namespace":
		t.namespace = strings.Trim(value, "/")
		return validPath(t.namespace)
	case "decrypt-only":
		t.decryptOnly = value == "true"
		return t.decryptOnly || value == "false"
	}
	a.given = true
	switch name {
	case "auth":
		a.method = value
		return value == "token" || value == "approle" || value == "kubernetes"
	case "auth-mount":
		a.mount = strings.Trim(value, "/")
		return validPath(a.mount)
	case "role":
		a.role = value
	case "role-id":
		a.roleID = value
	case "secret-id-env":
		a.secretIDEnv = value
	case "secret-id-file":
		a.secretIDFile = value
		return filepath.IsAbs(value)
	case "jwt-file":
		a.jwtFile = value
		return filepath.IsAbs(value)
	case "token-file":
		a.tokenFile = value
		return filepath.IsAbs(value)
	default:
		return false
	}
	return true
}

// check refuses parameters that are missing or that the chosen login would ignore.
func (a authParameters) check() error {
	approle := a.roleID != "" || a.secretIDFile != "" || a.secretIDEnv != ""
	kubernetes := a.role != "" || a.jwtFile != ""
	switch a.method {
	case "approle":
		switch {
		case kubernetes || a.tokenFile != "":
			return errors.New("\"auth=approle\" excludes the parameters \"role\", \"jwt-file\" and \"token-file\"")
		case a.roleID == "" || (a.secretIDFile == "") == (a.secretIDEnv == ""):
			return errors.New("\"auth=approle\" needs \"role-id\" and either \"secret-id-file\" or \"secret-id-env\"")
		}
	case "kubernetes":
		switch {
		case approle || a.tokenFile != "":
			return errors.New("\"auth=kubernetes\" excludes \"role-id\", \"secret-id-file\", \"secret-id-env\" and \"token-file\"")
		case a.role == "":
			return errors.New("\"auth=kubernetes\" needs the parameter \"role\"")
		}
	default:
		if approle || kubernetes || a.mount != "" {
			return errors.New("the login parameters of the URI need \"auth=approle\" or \"auth=kubernetes\" (set one of the two)")
		}
	}
	return nil
}

// place describes the server and the namespace of the key. own reports whether the client was made from the environment.
func (t target) place(client *api.Client, own bool) string {
	var place string
	if u, err := url.Parse(client.Address()); err == nil {
		place = " at " + u.Host
		if t.host == "" && own && os.Getenv(api.EnvVaultAddress) == "" && os.Getenv(api.EnvVaultAgentAddr) == "" {
			place += " (VAULT_ADDR is not set)"
		}
	}
	if t.namespace != "" {
		place += " in namespace " + t.namespace
	}
	return place
}
