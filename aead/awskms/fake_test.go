package awskms_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/tink-crypto/tink-go/v2/aead/subtle"
	"github.com/tink-crypto/tink-go/v2/tink"
)

const (
	keyID     = "AKIATESTTESTTESTTEST"
	secretKey = "wJalrXUtnFEMI-the-secret-key-of-the-tests"
	region    = "eu-west-1"
	keyARN    = "arn:aws:kms:eu-west-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
	otherARN  = "arn:aws:kms:eu-west-1:111122223333:key/00000000-12ab-34cd-56ef-1234567890ab"
)

// fakeKMS is AWS KMS with the calls Encrypt and Decrypt. It checks signatures, permissions, key states, encryption contexts and
// lengths as KMS does. Its ciphertexts name their key.
type fakeKMS struct {
	t      *testing.T
	addr   string
	signer *v4.Signer

	mu      sync.Mutex
	server  *httptest.Server
	keys    map[string]tink.AEAD
	aliases map[string]string // the ARNs of keys by those of their aliases
	states  map[string]string // by ARN: the code and message that KMS answers
	denied  map[string]bool   // by action
	status  int
	code    string
	proxy   string // is answered with status 200 in the place of KMS
	gone    chan struct{}
	open    int                 // connections
	seen    []map[string]string // the encryption contexts
}

func newFake(t *testing.T) *fakeKMS {
	t.Helper()
	f := &fakeKMS{
		t: t, addr: "127.0.0.1:0", signer: v4.NewSigner(),
		keys: map[string]tink.AEAD{}, states: map[string]string{}, denied: map[string]bool{},
	}
	for _, arn := range []string{keyARN, otherARN} {
		key := make([]byte, 32)
		rand.Read(key)
		a, err := subtle.NewAESGCM(key)
		if err != nil {
			t.Fatal(err)
		}
		f.keys[arn] = a
	}
	f.start()
	t.Cleanup(f.stop)
	return f
}

func (f *fakeKMS) start() {
	l, err := net.Listen("tcp", f.addr)
	if err != nil {
		f.t.Errorf("listen: %v", err)
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.addr = l.Addr().String()
	f.server = &httptest.Server{Listener: l, Config: &http.Server{Handler: f, ConnState: f.count}}
	f.server.Start()
}

func (f *fakeKMS) count(_ net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		f.set(func() { f.open++ })
	case http.StateClosed:
		f.set(func() { f.open-- })
	}
}

func (f *fakeKMS) connections() (n int) {
	f.set(func() { n = f.open })
	return n
}

func (f *fakeKMS) stop() {
	f.set(func() {
		if f.gone != nil {
			close(f.gone)
			f.gone = nil
		}
	})
	f.mu.Lock()
	server := f.server
	f.server = nil
	f.mu.Unlock()
	if server != nil {
		server.CloseClientConnections()
		server.Close()
	}
}

func (f *fakeKMS) set(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

func (f *fakeKMS) url() string { return "http://" + f.addr }

func (f *fakeKMS) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	f.mu.Lock()
	gone, status, code, proxy := f.gone, f.status, f.code, f.proxy
	f.mu.Unlock()
	if gone != nil {
		select {
		case <-gone:
		case <-r.Context().Done():
			return
		}
	}
	if proxy != "" {
		_, _ = io.WriteString(w, proxy) // the client has gone
		return
	}
	out := map[string]any{}
	switch {
	case status != 0: // a proxy may reflect the request
		out["__type"], out["message"] = code, fmt.Sprint(r.Header)
	case !f.signed(r, body):
		status, out["__type"], out["message"] = http.StatusBadRequest, "UnrecognizedClientException", "The security token included in the request is invalid."
	default:
		status, out = f.answer(strings.TrimPrefix(r.Header.Get("X-Amz-Target"), "TrentService."), body)
	}
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(out) // the client has gone
}

// signed checks the signature, by signing the same request.
func (f *fakeKMS) signed(r *http.Request, body []byte) bool {
	at, err := time.Parse("20060102T150405Z", r.Header.Get("X-Amz-Date"))
	if err != nil {
		return false
	}
	_, names, ok := strings.Cut(r.Header.Get("Authorization"), "SignedHeaders=")
	if !ok {
		return false
	}
	names, _, _ = strings.Cut(names, ",")
	again, err := http.NewRequest(r.Method, f.url()+r.URL.Path, bytes.NewReader(body))
	if err != nil {
		return false
	}
	for name := range strings.SplitSeq(names, ";") {
		if name != "host" && name != "content-length" {
			again.Header.Set(name, r.Header.Get(name))
		}
	}
	again.Host = r.Host
	sum := sha256.Sum256(body)
	credentials := aws.Credentials{AccessKeyID: keyID, SecretAccessKey: secretKey, SessionToken: r.Header.Get("X-Amz-Security-Token")}
	if err := f.signer.SignHTTP(context.Background(), credentials, again, hex.EncodeToString(sum[:]), "kms", region, at); err != nil {
		return false
	}
	return again.Header.Get("Authorization") == r.Header.Get("Authorization")
}

type request struct {
	KeyID             string `json:"KeyId"`
	Plaintext         []byte
	CiphertextBlob    []byte
	EncryptionContext map[string]string
}

func (f *fakeKMS) answer(action string, body []byte) (int, map[string]any) {
	refuse := func(code, message string) (int, map[string]any) {
		return http.StatusBadRequest, map[string]any{"__type": code, "message": message}
	}
	var r request
	if err := json.Unmarshal(body, &r); err != nil {
		return refuse("SerializationException", "")
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.seen = append(f.seen, r.EncryptionContext)
	if f.denied[action] {
		return refuse("AccessDeniedException", "User: arn:aws:iam::111122223333:user/x is not authorized to perform: kms:"+action)
	}
	if arn, ok := f.aliases[r.KeyID]; ok {
		r.KeyID = arn
	}
	key, ok := f.keys[r.KeyID]
	if !ok {
		return refuse("NotFoundException", "Key '"+r.KeyID+"' does not exist")
	}
	if code, message, bad := strings.Cut(f.states[r.KeyID], ":"); bad {
		return refuse(code, r.KeyID+message)
	}
	ad, size := "", 0
	for _, k := range slices.Sorted(maps.Keys(r.EncryptionContext)) {
		ad += fmt.Sprintf("%q=%q;", k, r.EncryptionContext[k])
		size += len(k) + len(r.EncryptionContext[k])
	}
	if size > 8192 {
		return refuse("ValidationException", "encryption context too large")
	}
	switch action {
	case "Encrypt":
		if len(r.Plaintext) < 1 || len(r.Plaintext) > 4096 {
			return refuse("ValidationException", "length")
		}
		out, err := key.Encrypt(r.Plaintext, []byte(ad))
		if err != nil {
			f.t.Error(err)
		}
		return http.StatusOK, map[string]any{"KeyId": r.KeyID, "CiphertextBlob": append([]byte(r.KeyID), out...), "EncryptionAlgorithm": "SYMMETRIC_DEFAULT"}
	case "Decrypt":
		if len(r.CiphertextBlob) < 1 || len(r.CiphertextBlob) > 6144 {
			return refuse("ValidationException", "length")
		}
		sealed, ok := bytes.CutPrefix(r.CiphertextBlob, []byte(r.KeyID))
		if !ok {
			for arn := range f.keys {
				if bytes.HasPrefix(r.CiphertextBlob, []byte(arn)) {
					return refuse("IncorrectKeyException", "")
				}
			}
			return refuse("InvalidCiphertextException", "")
		}
		out, err := key.Decrypt(sealed, []byte(ad))
		if err != nil {
			return refuse("InvalidCiphertextException", "")
		}
		return http.StatusOK, map[string]any{"KeyId": r.KeyID, "Plaintext": out, "EncryptionAlgorithm": "SYMMETRIC_DEFAULT"}
	}
	return refuse("UnknownOperationException", "")
}
