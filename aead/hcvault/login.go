package hcvault

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"syscall"
	"time"

	"github.com/hashicorp/vault/api"
	"github.com/hashicorp/vault/api/auth/approle"
	"github.com/hashicorp/vault/api/auth/kubernetes"

	"github.com/sealcache/sealcache/aead/internal/keyservice"
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
	type answer struct {
		secret *api.Secret
		err    error
	}
	select {
	case busy <- struct{}{}:
	case <-ctx.Done():
		return nil, keyservice.Unreached(ctx.Err())
	}
	answers := make(chan answer, 1)
	go func() {
		a := answer{err: &keyservice.Failure{Reason: "login: the code of the login method panicked"}}
		defer func() {
			_ = recover() // its value may hold a secret
			<-busy
			answers <- a
		}()
		secret, err := l.get(ctx)
		a = answer{secret, err}
	}()
	select {
	case a := <-answers:
		return a.secret, a.err
	case <-ctx.Done():
	}
	grace := time.NewTimer(loginGrace)
	defer grace.Stop()
	select {
	case a := <-answers:
		return a.secret, a.err
	case <-grace.C:
		return nil, &keyservice.Failure{Reason: "login: the file or login method does not answer", Cause: ctx.Err()}
	}
}

// loginGrace is how long a login may continue after its context has ended, to say why it had not succeeded.
const loginGrace = 100 * time.Millisecond

// login returns the login that the opener or the URI asks for.
func (o Opener) login(t target, client *api.Client) (login, error) {
	a := t.auth
	if o.Auth != nil && a.given {
		return login{}, errors.New("the Opener and the URI both set a login (remove one of them)")
	}
	switch {
	case o.Auth != nil:
		return byMethod(client, func() (api.AuthMethod, error) { return o.Auth, nil }), nil
	case a.method == "approle":
		return byMethod(client, func() (api.AuthMethod, error) {
			if a.secretIDEnv != "" && os.Getenv(a.secretIDEnv) == "" {
				return nil, &keyservice.Failure{Reason: "the environment variable " + a.secretIDEnv + " is not set"}
			}
			var opts []approle.LoginOption
			if a.mount != "" {
				opts = append(opts, approle.WithMountPath(a.mount))
			}
			return approle.NewAppRoleAuth(a.roleID, &approle.SecretID{FromFile: a.secretIDFile, FromEnv: a.secretIDEnv}, opts...)
		}), nil
	case a.method == "kubernetes":
		// The method reads the service account's token once. Kubernetes replaces that token about once an hour, so each login
		// makes the method again.
		return byMethod(client, func() (api.AuthMethod, error) {
			var opts []kubernetes.LoginOption
			if a.mount != "" {
				opts = append(opts, kubernetes.WithMountPath(a.mount))
			}
			if a.jwtFile != "" {
				opts = append(opts, kubernetes.WithServiceAccountTokenPath(a.jwtFile))
			}
			return kubernetes.NewKubernetesAuth(a.role, opts...)
		}), nil
	case a.tokenFile != "":
		return login{repeatable: true, get: func(ctx context.Context) (*api.Secret, error) {
			token, err := readToken(a.tokenFile)
			if err != nil {
				return nil, err
			}
			client.SetToken(token)
			return lookUp(ctx, client)
		}}, nil
	default:
		return login{get: func(ctx context.Context) (*api.Secret, error) { return lookUp(ctx, client) }}, nil
	}
}

// byMethod logs in by a method of Vault's client.
func byMethod(client *api.Client, method func() (api.AuthMethod, error)) login {
	return login{repeatable: true, get: func(ctx context.Context) (*api.Secret, error) {
		m, err := method()
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
			f.Reason = "login: the login method is not mounted at this path"
		}
		return &keyservice.Failure{Reason: f.Reason, Cause: err}
	}
	f := keyservice.Unreached(err)
	f.Reason = "login: " + f.Reason
	return f
}

// maxToken bounds a token file. Batch tokens of Vault have several hundred bytes.
const maxToken = 16 << 10

func readToken(path string) (string, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0) // a named pipe without a writer is empty
	if err != nil {
		return "", &keyservice.Failure{Reason: "token: " + err.Error(), Cause: err}
	}
	defer f.Close()
	_ = f.SetReadDeadline(time.Now().Add(10 * time.Second)) // of a named pipe; regular files have none
	b, err := io.ReadAll(io.LimitReader(f, maxToken+1))
	if err != nil {
		return "", &keyservice.Failure{Reason: "token: " + err.Error(), Cause: err}
	}
	b = bytes.TrimSpace(b)
	if len(b) == 0 || len(b) > maxToken {
		return "", &keyservice.Failure{Reason: "token: the token file is empty or too large"}
	}
	return string(b), nil
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
