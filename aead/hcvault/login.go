package hcvault

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/hashicorp/vault/api"
	"github.com/hashicorp/vault/api/auth/approle"
	"github.com/hashicorp/vault/api/auth/kubernetes"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/aead/internal/keyservice"
	"github.com/sealcache/sealcache/internal/abandon"
	"github.com/sealcache/sealcache/internal/nilcheck"
)

// login gets a token and gives it to the client.
type login struct {
	// get returns the token and its lifetime. Call it by run.
	get func(context.Context) (*api.Secret, error)
	// repeatable says that get may return another token later.
	repeatable bool
}

// run calls get, and does not wait for it much longer than ctx lasts: it may read a file on a mount that hangs, or a named pipe.
// busy holds a token during a call, also after it was abandoned, so that one is under way at most.
func (l login) run(ctx context.Context, busy chan struct{}) (*api.Secret, error) {
	select {
	case busy <- struct{}{}:
	case <-ctx.Done():
		return nil, keyservice.Unreached(ctx.Err())
	}
	a, ok := abandon.Call(ctx, "login: the code of the login method", func() { <-busy }, func(*api.Secret) {}, func() (*api.Secret, error) {
		return l.get(ctx)
	})
	if !ok {
		return nil, &keyservice.Failure{Reason: "login: the login method, or the file with its credential, did not answer in time", Cause: ctx.Err()}
	}
	if broken := (*abandon.Broken)(nil); errors.As(a.Err, &broken) {
		return nil, &keyservice.Failure{Reason: broken.Error()}
	}
	return a.Out, a.Err
}

// login returns the login that the opener or the URI asks for.
func (o Opener) login(t target, client *api.Client) (login, error) {
	a := t.auth
	if o.Auth != nil && a.given {
		return login{}, errors.New("the Opener has an Auth, and the URI also sets a login (use only one of the two)")
	}
	switch {
	case o.Auth != nil && nilcheck.IsNil(o.Auth):
		return login{}, errors.New("the Auth of the Opener is a nil pointer (leave Auth unset, or set a login method)")
	case o.Auth != nil:
		return byMethod(client, func(context.Context) (api.AuthMethod, error) { return o.Auth, nil }), nil
	case a.method == "approle":
		return byMethod(client, func(ctx context.Context) (api.AuthMethod, error) {
			secretID := &approle.SecretID{FromEnv: a.secretIDEnv}
			if a.secretIDEnv != "" && os.Getenv(a.secretIDEnv) == "" {
				return nil, &keyservice.Failure{Reason: "the environment variable " + a.secretIDEnv + " is not set"}
			}
			if a.secretIDFile != "" {
				var err error
				if secretID.FromString, err = readFile(ctx, a.secretIDFile); err != nil {
					return nil, err
				}
			}
			var opts []approle.LoginOption
			if a.mount != "" {
				opts = append(opts, approle.WithMountPath(a.mount))
			}
			return approle.NewAppRoleAuth(a.roleID, secretID, opts...)
		}), nil
	case a.method == "kubernetes":
		// Kubernetes replaces the service account's token about once an hour, so each login reads the file again.
		return byMethod(client, func(ctx context.Context) (api.AuthMethod, error) {
			jwt, err := readFile(ctx, cmp.Or(a.jwtFile, kubernetesToken))
			if err != nil {
				return nil, err
			}
			opts := []kubernetes.LoginOption{kubernetes.WithServiceAccountToken(jwt)}
			if a.mount != "" {
				opts = append(opts, kubernetes.WithMountPath(a.mount))
			}
			return kubernetes.NewKubernetesAuth(a.role, opts...)
		}), nil
	case a.tokenFile != "":
		return login{repeatable: true, get: func(ctx context.Context) (*api.Secret, error) {
			token, err := readFile(ctx, a.tokenFile)
			if err != nil {
				return nil, &keyservice.Failure{Reason: "token: " + err.Error(), Cause: err}
			}
			client.SetToken(token)
			return lookUp(ctx, client)
		}}, nil
	default:
		return login{get: func(ctx context.Context) (*api.Secret, error) { return lookUp(ctx, client) }}, nil
	}
}

// byMethod logs in by a method of Vault's client.
func byMethod(client *api.Client, method func(context.Context) (api.AuthMethod, error)) login {
	return login{repeatable: true, get: func(ctx context.Context) (*api.Secret, error) {
		m, err := method(ctx)
		if err != nil {
			return nil, loginFailed(err)
		}
		secret, err := client.Auth().Login(ctx, m)
		if err != nil {
			return nil, loginFailed(err)
		}
		return secret, nil
	}}
}

// loginFailed names the reason of a failed login. The methods' error texts may quote their requests.
func loginFailed(err error) error {
	var (
		known  *keyservice.Failure
		path   *fs.PathError
		answer *api.ResponseError
	)
	switch {
	case errors.As(err, &known):
		return &keyservice.Failure{Reason: "login: " + known.Reason, Cause: known.Cause}
	case errors.As(err, &path):
		return &keyservice.Failure{Reason: "login: " + path.Error(), Cause: err}
	case errors.As(err, &answer):
		f := classify(err, "")
		switch answer.StatusCode {
		case 400, 403:
			f.Reason = "login: Vault refuses the role or its secret"
		case 404:
			f.Reason = "login: Vault has no login method at the path that the URI or the Opener gives"
		}
		return &keyservice.Failure{Reason: f.Reason, Cause: err}
	}
	f := keyservice.Unreached(err)
	f.Reason = "login: " + f.Reason
	return f
}

const (
	// maxCredential bounds a file with a credential. Batch tokens of Vault have several hundred bytes.
	maxCredential = 16 << 10
	// readTimeout bounds the reading of a named pipe, of which a writer writes nothing.
	readTimeout = 10 * time.Second
	// kubernetesToken is where Kubernetes puts the token of the service account.
	kubernetesToken = "/var/run/secrets/kubernetes.io/serviceaccount/token"
)

// readFile returns the credential in a file, without white space around it. The methods of Vault's client do not bound their
// readings of files. If a file hangs, each abandoned reading keeps a thread. FileSource bounds its readings, also those of one
// file over all KEKs. It does not wait for the writer of a named pipe to come.
func readFile(ctx context.Context, path string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	b, err := aead.FileSource(path).Load(ctx)
	if err != nil {
		return "", &keyservice.Failure{Reason: strings.TrimPrefix(err.Error(), "aead: keyset file: "), Cause: err}
	}
	defer clear(b)
	credential := bytes.TrimSpace(b)
	switch {
	case len(credential) == 0:
		return "", &keyservice.Failure{Reason: "the file with the credential is empty"}
	case len(credential) > maxCredential:
		return "", &keyservice.Failure{Reason: "the file with the credential is larger than 16 KiB"}
	}
	return string(credential), nil
}

// lookUp returns the client's token with its lifetime, or nil if it does not end. A token may lack the permission to look
// itself up; it is used and not renewed. A Vault agent adds its own token to calls without one.
func lookUp(ctx context.Context, client *api.Client) (*api.Secret, error) {
	token := client.Token()
	if token == "" {
		return nil, nil //nolint:nilnil // no lifetime to watch
	}
	found, err := client.Auth().Token().LookupSelfWithContext(ctx)
	switch {
	case hasStatus(err, 403):
		return nil, nil //nolint:nilnil // no lifetime to watch
	case hasStatus(err, 404):
		return nil, &keyservice.Failure{Reason: "token: no Vault answers at this address", Cause: err}
	case err != nil:
		f := classify(err, "")
		return nil, &keyservice.Failure{Reason: "token: " + f.Reason, Cause: err}
	}
	ttl, err := found.TokenTTL()
	if err != nil || ttl <= 0 {
		return nil, nil //nolint:nilnil,nilerr // a root token
	}
	renewable, err := found.TokenIsRenewable()
	if err != nil {
		return nil, &keyservice.Failure{Reason: "token: the answer of Vault does not contain the lifetime of the token"}
	}
	return &api.Secret{Auth: &api.SecretAuth{ClientToken: token, Renewable: renewable, LeaseDuration: int(ttl.Seconds())}}, nil
}
