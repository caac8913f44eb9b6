package gcpkms_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	kms "cloud.google.com/go/kms/apiv1"
	"cloud.google.com/go/kms/apiv1/kmspb"
	"github.com/tink-crypto/tink-go/v2/tink"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/aead/aeadtest"
	"github.com/sealcache/sealcache/aead/gcpkms"
)

const keyURI = "gcp-kms://" + keyName

func open(t *testing.T, f *fakeKMS) aead.KEK {
	t.Helper()
	kek, err := aead.OpenKEK(t.Context(), keyURI, gcpkms.Opener{Options: f.options(bearer)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = kek.Close() })
	return kek
}

func TestConformance(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	aeadtest.Run(t, func(t *testing.T) tink.AEADWithContext { return open(t, f) }, aeadtest.Limits{MaxPlaintext: 64 << 10})
}

func TestRemote(t *testing.T) {
	t.Parallel()
	aeadtest.RunRemote(t, func(t *testing.T) aeadtest.Remote {
		f := newFake(t)
		answer := func(code codes.Code) func() {
			return func() { f.set(func() { f.err = status.Error(code, "") }) }
		}
		return aeadtest.Remote{
			KEK:      open(t, f),
			Stop:     f.stop,
			Hang:     func() { f.set(func() { f.gone = true }) },
			Throttle: answer(codes.ResourceExhausted),
			Deny:     func() { f.set(func() { f.denied = map[string]bool{"Encrypt": true, "Decrypt": true} }) },
			Fail:     answer(codes.Internal),
			Heal: func() {
				f.stop()
				f.set(func() { f.err, f.gone, f.denied = nil, false, nil })
				f.start()
			},
			Secrets: []string{bearer},
		}
	})
}

// Ciphertexts are those of KMS itself, with the associated data as it is, as Tink's integration makes and opens them.
func TestCiphertextsOfKMS(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	kek := open(t, f)
	c, err := kms.NewKeyManagementClient(t.Context(), f.options(bearer)...)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, ad := range [][]byte{nil, []byte("associated data")} {
		theirs, err := c.Encrypt(t.Context(), &kmspb.EncryptRequest{
			Name: keyName, Plaintext: []byte("data key"), AdditionalAuthenticatedData: ad,
			PlaintextCrc32C: wrapperspb.Int64(crc([]byte("data key"))), AdditionalAuthenticatedDataCrc32C: wrapperspb.Int64(crc(ad)),
		})
		if err != nil {
			t.Fatal(err)
		}
		if opened, err := kek.DecryptWithContext(t.Context(), theirs.GetCiphertext(), ad); err != nil || string(opened) != "data key" {
			t.Errorf("theirs: %q, %v", opened, err)
		}
		ours, err := kek.EncryptWithContext(t.Context(), []byte("data key"), ad)
		if err != nil {
			t.Fatal(err)
		}
		opened, err := c.Decrypt(t.Context(), &kmspb.DecryptRequest{
			Name: keyName, Ciphertext: ours, AdditionalAuthenticatedData: ad,
			CiphertextCrc32C: wrapperspb.Int64(crc(ours)), AdditionalAuthenticatedDataCrc32C: wrapperspb.Int64(crc(ad)),
		})
		if err != nil || string(opened.GetPlaintext()) != "data key" {
			t.Errorf("ours: %v", err)
		}
	}
}

// A key version that is disabled or destroyed is a definite refusal.
func TestKeyStates(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	kek := open(t, f)
	sealed, err := kek.EncryptWithContext(t.Context(), []byte("data key"), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, state := range []string{"DISABLED", "DESTROYED", "DESTROY_SCHEDULED"} {
		f.set(func() { f.state = state })
		if _, err := kek.DecryptWithContext(t.Context(), sealed, nil); !errors.Is(err, aead.ErrUnknownKey) || errors.Is(err, aead.ErrKeyServiceUnavailable) {
			t.Errorf("%s: unwrap: %v", state, err)
		}
		if _, err := kek.EncryptWithContext(t.Context(), []byte("x"), nil); !errors.Is(err, aead.ErrKeyServiceUnavailable) {
			t.Errorf("%s: wrap: %v", state, err)
		}
		_, err := aead.OpenKEK(t.Context(), keyURI, gcpkms.Opener{Options: f.options(bearer)})
		if want := keyName + `": the key version is disabled or destroyed`; err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: open: %v", state, err)
		}
	}
	f.set(func() { f.state = "" })
	if _, err := kek.DecryptWithContext(t.Context(), sealed, nil); err != nil {
		t.Error(err)
	}
}

// Bytes that a machine in between changed are an outage in both directions.
func TestChecksums(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	kek := open(t, f)
	sealed, err := kek.EncryptWithContext(t.Context(), []byte("data key"), nil)
	if err != nil {
		t.Fatal(err)
	}
	f.set(func() { f.corrupt = true })
	if _, err := kek.EncryptWithContext(t.Context(), []byte("x"), nil); !errors.Is(err, aead.ErrKeyServiceUnavailable) || !strings.Contains(err.Error(), "checksum") {
		t.Errorf("wrap: %v", err)
	}
	if _, err := kek.DecryptWithContext(t.Context(), sealed, nil); !errors.Is(err, aead.ErrKeyServiceUnavailable) || !strings.Contains(err.Error(), "checksum") {
		t.Errorf("unwrap: %v", err)
	}
}

// A refusal by Google's API itself says nothing about a ciphertext, although the code is that of an altered ciphertext.
func TestRefusedByAPI(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	kek := open(t, f)
	sealed, err := kek.EncryptWithContext(t.Context(), []byte("data key"), nil)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := status.New(codes.InvalidArgument, "API key not valid. Please pass a valid API key.").
		WithDetails(&errdetails.ErrorInfo{Reason: "API_KEY_INVALID", Domain: "googleapis.com"})
	if err != nil {
		t.Fatal(err)
	}
	f.set(func() { f.api = answer.Err() })
	if _, err := kek.DecryptWithContext(t.Context(), sealed, nil); !errors.Is(err, aead.ErrKeyServiceUnavailable) || errors.Is(err, aead.ErrUnauthentic) {
		t.Errorf("unwrap: %v", err)
	}
}

// An empty answer says nothing about a ciphertext, and decrypts to nothing.
func TestEmptyAnswer(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	kek := open(t, f)
	sealed, err := kek.EncryptWithContext(t.Context(), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if opened, err := kek.DecryptWithContext(t.Context(), sealed, nil); err != nil || len(opened) > 0 {
		t.Errorf("an empty plaintext: %q, %v", opened, err)
	}
	f.set(func() { f.empty = true })
	if opened, err := kek.DecryptWithContext(t.Context(), sealed, nil); !errors.Is(err, aead.ErrKeyServiceUnavailable) {
		t.Errorf("%q, %v", opened, err)
	}
}

// A huge answer does not fill the memory.
func TestHugeAnswer(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	kek := open(t, f)
	sealed, err := kek.EncryptWithContext(t.Context(), []byte("data key"), nil)
	if err != nil {
		t.Fatal(err)
	}
	f.set(func() { f.huge = true })
	opened, err := kek.DecryptWithContext(t.Context(), sealed, nil)
	if !errors.Is(err, aead.ErrKeyServiceUnavailable) || !strings.Contains(err.Error(), "gRPC status ResourceExhausted") {
		t.Errorf("%d bytes, %v", len(opened), err)
	}
}

func TestOpenErrors(t *testing.T) {
	t.Parallel()
	const secret = "hunter2"
	f := newFake(t)
	form := "the URI must be gcp-kms://projects/"
	for _, c := range []struct{ uri, token, denied, want string }{
		{uri: "gcp-kms:" + keyName, want: form},
		{uri: "gcp-kms://" + secret, want: form},
		{uri: keyURI + "/cryptoKeyVersions/1", want: form},
		{uri: keyURI + "#" + secret, want: form},
		{uri: keyURI + "?key=" + secret, want: "unknown or repeated parameter"},
		{uri: keyURI + "?%zz" + secret, want: "after '?' in the URI"},
		{uri: keyURI + "2", want: `cryptoKeys/cache2": the key does not exist`},
		{uri: keyURI, denied: "Decrypt", want: keyName + `": permission denied (grant the permission "cloudkms.cryptoKeyVersions.useToDecrypt")`},
		{uri: keyURI, denied: "Encrypt", want: keyName + `": permission denied (grant the permission "cloudkms.cryptoKeyVersions.useToEncrypt")`},
		{uri: keyURI, token: secret, want: "the Google Cloud credentials are wrong or have expired"},
	} {
		f.set(func() { f.denied = map[string]bool{c.denied: true} })
		if c.token == "" {
			c.token = bearer
		}
		_, err := aead.OpenKEK(t.Context(), c.uri, gcpkms.Opener{Options: f.options(c.token)})
		switch {
		case err == nil || !strings.Contains(err.Error(), c.want):
			t.Errorf("%s: %v, want %q", c.uri, err, c.want)
		case strings.Contains(err.Error(), secret) || strings.Contains(err.Error(), bearer):
			t.Errorf("the error shows a secret: %v", err)
		}
	}
	f.set(func() { f.denied = map[string]bool{"Encrypt": true} })
	kek, err := aead.OpenKEK(t.Context(), keyURI+"?decrypt-only=true", gcpkms.Opener{Options: f.options(bearer)})
	if err != nil {
		t.Fatal(err)
	}
	defer kek.Close()
	for _, verb := range []string{"%v", "%+v", "%#v", "%x"} {
		if text := fmt.Sprintf(verb, gcpkms.Opener{Options: f.options(bearer)}); text != "gcpkms.Opener" {
			t.Errorf("%s: %s", verb, text)
		}
	}
}

func TestNoCredentials(t *testing.T) {
	const secret = "hunter2-private-key"
	file := filepath.Join(t.TempDir(), "credentials.json")
	if err := os.WriteFile(file, []byte(`{"type":"service_account","private_key":"`+secret+`"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/does/not/exist", file} {
		t.Setenv("GOOGLE_APPLICATION_CREDENTIALS", path)
		_, err := aead.OpenKEK(t.Context(), keyURI, gcpkms.Opener{})
		if err == nil || !strings.Contains(err.Error(), keyName+`": the file of GOOGLE_APPLICATION_CREDENTIALS is missing or not valid`) {
			t.Errorf("%v", err)
		}
		if err != nil && strings.Contains(err.Error(), secret) {
			t.Errorf("the error shows a secret: %v", err)
		}
	}
}
