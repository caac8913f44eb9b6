package monitor_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"

	"github.com/alicebob/miniredis/v2"
	"github.com/hibiken/asynq"
	tinkaead "github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/keyset"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/middleware/jobs"
	"github.com/sealcache/sealcache/middleware/jobs/asynqjobs"
	"github.com/sealcache/sealcache/middleware/jobs/asynqjobs/monitor"
)

// The application mounts the page in its own mux, behind its own authentication, and decides what each viewer sees.
func Example() {
	server, err := miniredis.Run()
	if err != nil {
		panic(err)
	}
	defer server.Close()
	redis := asynq.RedisClientOpt{Addr: server.Addr()}
	e, err := exampleEncryptor()
	if err != nil {
		panic(err)
	}

	page, err := monitor.New(redis, e,
		monitor.WithRootPath("/admin/jobs"),
		monitor.WithLogger(slog.New(slog.DiscardHandler)),
		monitor.WithAuthorizer(func(r *http.Request) monitor.Viewer {
			user, _, _ := r.BasicAuth() // checked before, by the application
			switch user {
			case "auditor":
				return monitor.Viewer{Name: user, Access: monitor.AccessPayloads}
			case "operator":
				return monitor.Viewer{Name: user, Access: monitor.AccessTypes}
			default:
				return monitor.Viewer{}
			}
		}),
		monitor.WithAudit(func(_ context.Context, r monitor.Record) error {
			fmt.Println("audit:", r.Viewer, r.Action, r.Page, r.Queue, r.Tasks[0].ID)
			return nil
		}))
	if err != nil {
		panic(err)
	}
	defer page.Close()
	mux := http.NewServeMux()
	mux.Handle(page.RootPath()+"/", page)

	client, err := asynqjobs.NewClient(asynq.NewClient(redis), e)
	if err != nil {
		panic(err)
	}
	defer client.Close()
	task := asynq.NewTask("mail:welcome", []byte(`{"to":"jane@example.com"}`))
	if _, err := client.Enqueue(task, asynq.TaskID("1")); err != nil {
		panic(err)
	}
	for _, user := range []string{"operator", "auditor", "visitor"} {
		r := httptest.NewRequest(http.MethodGet, "/admin/jobs/api/queues/default/tasks/1", nil)
		r.SetBasicAuth(user, "")
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, r)
		fmt.Println(user, w.Code, "sees the address:", strings.Contains(w.Body.String(), "jane@example.com"))
	}
	// Output:
	// operator 200 sees the address: false
	// audit: auditor view task default 1
	// auditor 200 sees the address: true
	// visitor 403 sees the address: false
}

// A Viewer may be limited to some tasks.
func ExampleViewer() {
	v := monitor.Viewer{
		Name:    "support",
		Access:  monitor.AccessPayloads,
		CanView: func(t monitor.Task) bool { return strings.HasPrefix(t.Type, "mail:") },
	}
	fmt.Println(v.Access, v.CanView(monitor.Task{Queue: "default", Type: "payment:charge"}))
	// Output: payloads false
}

// The page is read-only without WithActions. With it, only viewers whom the authorizer allows to act can act.
func ExampleWithActions() {
	e, err := exampleEncryptor()
	if err != nil {
		panic(err)
	}
	redis := asynq.RedisClientOpt{Addr: "127.0.0.1:6379"}
	readers := monitor.WithAuthorizer(func(*http.Request) monitor.Viewer {
		return monitor.Viewer{Name: "operator", Access: monitor.AccessTypes}
	})
	readOnly, err := monitor.New(redis, e, readers)
	if err != nil {
		panic(err)
	}
	defer readOnly.Close()
	acting, err := monitor.New(redis, e, readers, monitor.WithActions(), monitor.WithLogger(slog.New(slog.DiscardHandler)))
	if err != nil {
		panic(err)
	}
	defer acting.Close()
	for _, h := range []http.Handler{readOnly, acting} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/api/queues/default:pause", nil))
		fmt.Println(w.Code)
	}
	// Output:
	// 405
	// 403
}

func exampleEncryptor() (*jobs.Encryptor, error) {
	h, err := keyset.NewHandle(tinkaead.AES256GCMKeyTemplate())
	if err != nil {
		return nil, err
	}
	k, err := aead.NewKeyring(h)
	if err != nil {
		return nil, err
	}
	return jobs.NewEncryptor(k)
}
