package awskms_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/aws/smithy-go"
	tinkkms "github.com/tink-crypto/tink-go-awskms/v3/integration/awskms"
	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/aead/aeadtest"
	"github.com/sealcache/sealcache/aead/awskms"
)

// config returns a configuration whose client repeats failed calls at once.
func config(secret string) *aws.Config {
	return &aws.Config{
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: keyID, SecretAccessKey: secret}, nil
		}),
		HTTPClient: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}},
		Retryer: func() aws.Retryer {
			return retry.NewStandard(func(o *retry.StandardOptions) { o.MaxBackoff = time.Millisecond })
		},
	}
}

func open(t *testing.T, f *fakeKMS) aead.KEK {
	t.Helper()
	kek, err := aead.OpenKEK(t.Context(), "aws-kms://"+keyARN, awskms.Opener{Config: config(secretKey), Endpoint: f.url()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = kek.Close() })
	return kek
}

func TestConformance(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	aeadtest.Run(t, func(t *testing.T) tink.AEADWithContext { return open(t, f) }, aeadtest.Limits{MinPlaintext: 1, MaxPlaintext: 4096, MaxAssociatedData: 4000})
}

func TestRemote(t *testing.T) {
	t.Parallel()
	aeadtest.RunRemote(t, func(t *testing.T) aeadtest.Remote {
		f := newFake(t)
		answer := func(status int, code string) func() {
			return func() { f.set(func() { f.status, f.code = status, code }) }
		}
		return aeadtest.Remote{
			KEK:      open(t, f),
			Stop:     f.stop,
			Hang:     func() { f.set(func() { f.gone = make(chan struct{}) }) },
			Throttle: answer(http.StatusBadRequest, "ThrottlingException"),
			Deny:     func() { f.set(func() { f.denied = map[string]bool{"Encrypt": true, "Decrypt": true} }) },
			Fail:     answer(http.StatusInternalServerError, "KMSInternalException"),
			Heal: func() {
				f.stop()
				f.set(func() { f.status, f.denied = 0, nil })
				f.start()
			},
			Secrets: []string{secretKey, keyID},
		}
	})
}

func TestTinkIntegration(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	kek := open(t, f)
	cfg := *config(secretKey)
	cfg.Region, cfg.BaseEndpoint = region, aws.String(f.url())
	c, err := tinkkms.NewClientWithOptions(t.Context(), "aws-kms://", tinkkms.WithKMS(kms.NewFromConfig(cfg)))
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := c.GetAEAD("aws-kms://" + keyARN)
	if err != nil {
		t.Fatal(err)
	}
	for _, ad := range [][]byte{nil, []byte("associated data")} {
		sealed, err := theirs.Encrypt([]byte("data key"), ad)
		if err != nil {
			t.Fatal(err)
		}
		if opened, err := kek.DecryptWithContext(t.Context(), sealed, ad); err != nil || string(opened) != "data key" {
			t.Errorf("theirs: %q, %v", opened, err)
		}
		if sealed, err = kek.EncryptWithContext(t.Context(), []byte("data key"), ad); err != nil {
			t.Fatal(err)
		}
		if opened, err := theirs.Decrypt(sealed, ad); err != nil || string(opened) != "data key" {
			t.Errorf("ours: %q, %v", opened, err)
		}
	}
}

// A key that is disabled or deleted is a definite refusal; a state that passes is an outage.
func TestKeyStates(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	kek := open(t, f)
	sealed, err := kek.EncryptWithContext(t.Context(), []byte("data key"), nil)
	if err != nil {
		t.Fatal(err)
	}
	for state, want := range map[string]error{
		"DisabledException: is disabled.":                        aead.ErrUnknownKey,
		"KMSInvalidStateException: is pending deletion.":         aead.ErrUnknownKey,
		"KMSInvalidStateException: is pending replica deletion.": aead.ErrUnknownKey,
		"NotFoundException: does not exist":                      aead.ErrUnknownKey,
		"KMSInvalidStateException: is unavailable.":              aead.ErrKeyServiceUnavailable,
		"KMSInvalidStateException: is pending import.":           aead.ErrKeyServiceUnavailable,
		"KeyUnavailableException: is unavailable.":               aead.ErrKeyServiceUnavailable,
		"SomethingNewException: is strange.":                     aead.ErrKeyServiceUnavailable,
		"ExpiredTokenException: The security token has expired":  aead.ErrKeyServiceUnavailable,
	} {
		f.set(func() { f.states[keyARN] = state })
		_, err := kek.DecryptWithContext(t.Context(), sealed, nil)
		if !errors.Is(err, want) || errors.Is(err, aead.ErrKeyServiceUnavailable) != errors.Is(want, aead.ErrKeyServiceUnavailable) {
			t.Errorf("%s: unwrap: %v, want %v", state, err, want)
		}
		if _, err := kek.EncryptWithContext(t.Context(), []byte("x"), nil); !errors.Is(err, aead.ErrKeyServiceUnavailable) {
			t.Errorf("%s: wrap: %v", state, err)
		}
		if _, err := aead.OpenKEK(t.Context(), "aws-kms://"+keyARN, awskms.Opener{Config: config(secretKey), Endpoint: f.url()}); err == nil || !strings.Contains(err.Error(), keyARN) {
			t.Errorf("%s: open: %v", state, err)
		}
	}
	f.set(func() { delete(f.states, keyARN) })
	if _, err := kek.DecryptWithContext(t.Context(), sealed, nil); err != nil {
		t.Error(err)
	}
	other, err := aead.OpenKEK(t.Context(), "aws-kms://"+otherARN, awskms.Opener{Config: config(secretKey), Endpoint: f.url()})
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	_, err = other.DecryptWithContext(t.Context(), sealed, nil)
	var wrongKey *types.IncorrectKeyException
	if !errors.Is(err, aead.ErrUnknownKey) || !errors.As(err, &wrongKey) {
		t.Errorf("wrapped under another key: %v", err)
	}
}

// An answer that is not of this key says nothing about a ciphertext, and decrypts to nothing.
func TestProxyAnswersInThePlaceOfKMS(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	kek := open(t, f)
	sealed, err := kek.EncryptWithContext(t.Context(), []byte("data key"), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, answer := range []string{
		"<html>please log in</html>", "{}", "null", " ", `{"KeyId":"` + keyARN + `","Plaintext":""}`,
		`{"Plaintext":"aGVsbG8=","CiphertextBlob":"aGVsbG8="}`, `{"KeyId":"` + otherARN + `","Plaintext":"aGVsbG8=","CiphertextBlob":"aGVsbG8="}`,
	} {
		f.set(func() { f.proxy = answer })
		opened, err := kek.DecryptWithContext(t.Context(), sealed, nil)
		if !errors.Is(err, aead.ErrKeyServiceUnavailable) || errors.Is(err, aead.ErrUnauthentic) || errors.Is(err, aead.ErrUnknownKey) {
			t.Errorf("unwrap: %s: %q, %v", answer, opened, err)
		}
		if _, err := kek.EncryptWithContext(t.Context(), []byte("data key"), nil); !errors.Is(err, aead.ErrKeyServiceUnavailable) {
			t.Errorf("wrap: %s: %v", answer, err)
		}
		if _, err := aead.OpenKEK(t.Context(), "aws-kms://"+keyARN+"?decrypt-only=true", awskms.Opener{Config: config(secretKey), Endpoint: f.url()}); err == nil {
			t.Errorf("open: %s: no error", answer)
		}
	}
}

// A refusal of KMS has status 400. Proxies and the service of the credentials have errors with the same codes.
func TestRefusalsThatAreNotOfKMS(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	var refused error // by the service of the credentials
	cfg := config(secretKey)
	cfg.Credentials = aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
		return aws.Credentials{AccessKeyID: keyID, SecretAccessKey: secretKey}, refused
	})
	kek, err := aead.OpenKEK(t.Context(), "aws-kms://"+keyARN, awskms.Opener{Config: cfg, Endpoint: f.url()})
	if err != nil {
		t.Fatal(err)
	}
	defer kek.Close()
	for _, code := range []string{"InvalidCiphertextException", "IncorrectKeyException", "NotFoundException", "DisabledException"} {
		for _, status := range []int{0, http.StatusForbidden, http.StatusNotFound, http.StatusBadGateway} {
			f.set(func() { f.status, f.code = status, code })
			refused = nil
			if status == 0 {
				refused = &smithy.GenericAPIError{Code: code, Message: secretKey}
			}
			_, err := kek.DecryptWithContext(t.Context(), []byte("x"), nil)
			if !errors.Is(err, aead.ErrKeyServiceUnavailable) || errors.Is(err, aead.ErrUnauthentic) || errors.Is(err, aead.ErrUnknownKey) {
				t.Errorf("%d %s: %v", status, code, err)
			}
			if status == 0 && !strings.Contains(err.Error(), "no AWS credentials") || strings.Contains(err.Error(), secretKey) {
				t.Errorf("%d %s: %v", status, code, err)
			}
		}
	}
}

// The key of an alias is in the region and the account of the alias.
func TestAlias(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	alias := "arn:aws:kms:eu-west-1:111122223333:alias/cache"
	f.set(func() { f.aliases = map[string]string{alias: keyARN} })
	kek, err := aead.OpenKEK(t.Context(), "aws-kms://"+alias, awskms.Opener{Config: config(secretKey), Endpoint: f.url()})
	if err != nil {
		t.Fatal(err)
	}
	defer kek.Close()
	f.set(func() {
		f.proxy = `{"KeyId":"` + strings.Replace(keyARN, "eu-west-1", "us-west-2", 1) + `","Plaintext":"aGVsbG8="}`
	})
	if opened, err := kek.DecryptWithContext(t.Context(), []byte("x"), nil); !errors.Is(err, aead.ErrKeyServiceUnavailable) {
		t.Errorf("a key of another region: %q, %v", opened, err)
	}
}

func TestOpenErrors(t *testing.T) {
	t.Parallel()
	const secret = "hunter2"
	f := newFake(t)
	uri := "aws-kms://" + keyARN
	form := "the URI must be aws-kms://arn"
	for _, c := range []struct {
		uri    string
		opener awskms.Opener
		denied string
		want   string
	}{
		{uri: "aws-kms:" + keyARN, want: form},
		{uri: "aws-kms://", want: form},
		{uri: "aws-kms://" + secret, want: form},
		{uri: "aws-kms://arn:aws:s3:eu-west-1:111122223333:key/x", want: form},
		{uri: "aws-kms://arn:aws:kms::111122223333:key/x", want: form},
		{uri: uri + "/" + secret, want: form},
		{uri: uri + "?secret=" + secret, want: "unknown or repeated parameter"},
		{uri: uri + "?decrypt-only=" + secret, want: "unknown or repeated parameter"},
		{uri: uri + "?%zz" + secret, want: "after '?' in the URI"},
		{uri: uri + "-other", want: `key/1234abcd-12ab-34cd-56ef-1234567890ab-other": the key does not exist`},
		{uri: uri, denied: "Decrypt", want: keyARN + `": permission denied (grant the permission "kms:Decrypt")`},
		{uri: uri, denied: "Encrypt", want: keyARN + `": permission denied (grant the permission "kms:Encrypt")`},
		{uri: uri, opener: awskms.Opener{Config: config(secret), Endpoint: f.url()}, want: "the AWS credentials are wrong or have expired"},
		{uri: uri, opener: awskms.Opener{Config: &aws.Config{}, Endpoint: f.url()}, want: "no AWS credentials"},
		{uri: uri, opener: awskms.Opener{Config: config(secret), Endpoint: "http://127.0.0.1:1"}, want: "connection refused"},
	} {
		f.set(func() { f.denied = map[string]bool{c.denied: true} })
		if c.opener == (awskms.Opener{}) {
			c.opener = awskms.Opener{Config: config(secretKey), Endpoint: f.url()}
		}
		_, err := aead.OpenKEK(t.Context(), c.uri, c.opener)
		switch {
		case err == nil || !strings.Contains(err.Error(), c.want):
			t.Errorf("%s: %v, want %q", c.uri, err, c.want)
		case strings.Contains(err.Error(), secret) || strings.Contains(err.Error(), secretKey) || strings.Contains(err.Error(), keyID):
			t.Errorf("the error shows a secret: %v", err)
		}
	}
	f.set(func() { f.denied = map[string]bool{"Encrypt": true} })
	kek, err := aead.OpenKEK(t.Context(), uri+"?decrypt-only=true", awskms.Opener{Config: config(secretKey), Endpoint: f.url()})
	if err != nil {
		t.Fatal(err)
	}
	defer kek.Close()
	for _, verb := range []string{"%v", "%+v", "%#v", "%x"} {
		if text := fmt.Sprintf(verb, awskms.Opener{Config: config(secretKey)}); text != "awskms.Opener" {
			t.Errorf("%s: %s", verb, text)
		}
	}
}

// The SDK's chain finds credentials and the endpoint.
func TestEnvironment(t *testing.T) {
	for _, v := range os.Environ() {
		if name, _, _ := strings.Cut(v, "="); strings.HasPrefix(name, "AWS_") {
			t.Setenv(name, "")
			_ = os.Unsetenv(name) // t.Setenv restores it
		}
	}
	f := newFake(t)
	for name, value := range map[string]string{
		"AWS_ENDPOINT_URL_KMS": f.url(), "AWS_ACCESS_KEY_ID": keyID, "AWS_SECRET_ACCESS_KEY": secretKey, "AWS_REGION": "us-west-2",
		"AWS_CONFIG_FILE": "/does/not/exist", "AWS_SHARED_CREDENTIALS_FILE": "/does/not/exist", "AWS_EC2_METADATA_DISABLED": "true",
	} {
		t.Setenv(name, value)
	}
	kek, err := aead.OpenKEK(t.Context(), "aws-kms://"+keyARN, awskms.Opener{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := kek.EncryptWithContext(t.Context(), []byte("data key"), nil); err != nil {
		t.Error(err)
	}
	f.set(func() { f.proxy = `{"Plaintext":"` + strings.Repeat("A", 8<<20) })
	_, err = kek.DecryptWithContext(t.Context(), []byte("x"), nil)
	var tooLong *http.MaxBytesError
	if !errors.Is(err, aead.ErrKeyServiceUnavailable) || !errors.As(err, &tooLong) {
		t.Errorf("an answer without end: %.200v", err)
	}
	f.set(func() { f.proxy = "" })
	if _, err := kek.EncryptWithContext(t.Context(), []byte("data key"), nil); err != nil {
		t.Error(err)
	}
	if err := kek.Close(); err != nil {
		t.Error(err)
	}
	for end := time.Now().Add(time.Minute); f.connections() > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d connections are open after Close", f.connections())
		}
	}
	t.Setenv("AWS_ACCESS_KEY_ID", "")
	if _, err := aead.OpenKEK(t.Context(), "aws-kms://"+keyARN, awskms.Opener{}); err == nil || !strings.Contains(err.Error(), "no AWS credentials") {
		t.Errorf("without credentials: %v", err)
	}
}
