//go:build moto

// These tests need moto (Python), which no CI machine can be expected to have: go test -tags moto -run Moto

package awskms_test

import (
	"errors"
	"net/http"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/aead/awskms"
)

// moto implements KMS in Python. It ignores disabled keys and says "access denied" to an altered key id, so the fake covers
// those.
func TestMoto(t *testing.T) {
	t.Parallel()
	moto, err := exec.LookPath("moto_server")
	if err != nil {
		t.Fatal(err)
	}
	url := startMoto(t, moto)
	cfg := *config(secretKey)
	cfg.Region, cfg.BaseEndpoint = region, aws.String(url)
	key, err := kms.NewFromConfig(cfg).CreateKey(t.Context(), &kms.CreateKeyInput{})
	if err != nil {
		t.Fatal(err)
	}
	kek, err := aead.OpenKEK(t.Context(), "aws-kms://"+*key.KeyMetadata.Arn, awskms.Opener{Config: config(secretKey), Endpoint: url})
	if err != nil {
		t.Fatal(err)
	}
	defer kek.Close()
	e, err := aead.NewEnvelope(t.Context(), kek)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	sealed, err := e.EncryptWithContext(t.Context(), []byte("value"), []byte("key"))
	if err != nil {
		t.Fatal(err)
	}
	if opened, err := e.DecryptWithContext(t.Context(), sealed, []byte("key")); err != nil || string(opened) != "value" {
		t.Errorf("%q, %v", opened, err)
	}
	wrapped, err := kek.EncryptWithContext(t.Context(), []byte("data key"), []byte("tenant-a"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := kek.DecryptWithContext(t.Context(), wrapped, []byte("tenant-b")); !errors.Is(err, aead.ErrUnauthentic) {
		t.Errorf("wrapped for tenant-a, unwrapped as tenant-b: %v", err)
	}
	wrapped[len(wrapped)-1] ^= 1
	if _, err := kek.DecryptWithContext(t.Context(), wrapped, []byte("tenant-a")); !errors.Is(err, aead.ErrUnauthentic) {
		t.Errorf("altered: %v", err)
	}
}

// startMoto starts moto on a free port.
func startMoto(t *testing.T, path string) string {
	t.Helper()
	f := newFake(t)
	f.stop() // its port is free now
	cmd := exec.CommandContext(t.Context(), path, "-H", "127.0.0.1", "-p", strings.TrimPrefix(f.addr, "127.0.0.1:"))
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have ended
		_ = cmd.Wait()
	})
	for end := time.Now().Add(60 * time.Second); ; {
		resp, err := http.Get(f.url() + "/moto-api/data.json")
		if err == nil {
			_ = resp.Body.Close()
			http.DefaultClient.CloseIdleConnections()
			return f.url()
		}
		if time.Now().After(end) {
			t.Fatalf("moto does not answer: %v", err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}
