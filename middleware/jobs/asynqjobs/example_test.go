package asynqjobs_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
	tinkaead "github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/prf"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/middleware/jobs"
	"github.com/sealcache/sealcache/middleware/jobs/asynqjobs"
)

// exampleEncryptor has keys made on the spot; an application opens its own with aead.NewEnvelope and aead.OpenPRF.
func exampleEncryptor() *jobs.Encryptor {
	handle, err := keyset.NewHandle(tinkaead.AES256GCMKeyTemplate())
	if err != nil {
		log.Fatal(err)
	}
	keys, err := aead.NewKeyring(handle)
	if err != nil {
		log.Fatal(err)
	}
	if handle, err = keyset.NewHandle(prf.HMACSHA256PRFKeyTemplate()); err != nil {
		log.Fatal(err)
	}
	tokens, err := prf.NewPRFSet(handle)
	if err != nil {
		log.Fatal(err)
	}
	e, err := jobs.NewEncryptor(keys, jobs.WithPRF(tokens), jobs.WithNamespace("shop"), jobs.WithCompression(512))
	if err != nil {
		log.Fatal(err)
	}
	return e
}

func exampleRedis() (*redis.Client, func()) {
	m, err := miniredis.Run()
	if err != nil {
		log.Fatal(err)
	}
	rdb := redis.NewClient(&redis.Options{Addr: m.Addr()})
	return rdb, func() {
		_ = rdb.Close()
		m.Close()
	}
}

// exampleServe is what a worker does.
func exampleServe(rdb *redis.Client, e *jobs.Encryptor, mux *asynq.ServeMux) *asynq.Server {
	cfg, err := asynqjobs.Config(e, asynq.Config{LogLevel: asynq.FatalLevel, TaskCheckInterval: 10 * time.Millisecond})
	if err != nil {
		log.Fatal(err)
	}
	handler, err := asynqjobs.Handler(e, mux)
	if err != nil {
		log.Fatal(err)
	}
	srv := asynq.NewServerFromRedisClient(rdb, cfg)
	if err := srv.Start(handler); err != nil {
		log.Fatal(err)
	}
	return srv
}

type welcomeArgs struct {
	Name string
}

// A typed job: one definition that both sides share.
func Example() {
	ctx := context.Background()
	rdb, stop := exampleRedis()
	defer stop()
	e := exampleEncryptor()
	client, err := asynqjobs.NewClient(asynq.NewClientFromRedisClient(rdb), e, asynqjobs.WithHiddenTypes())
	if err != nil {
		log.Fatal(err)
	}
	welcome := asynqjobs.Define[welcomeArgs]("mail:welcome", asynq.MaxRetry(5), asynq.Retention(time.Hour))

	mux := asynq.NewServeMux()
	processed := make(chan struct{})
	welcome.Handle(mux, func(ctx context.Context, args welcomeArgs) error {
		defer close(processed)
		fmt.Println("welcome,", args.Name)
		return asynqjobs.WriteResult(ctx, []byte("sent to "+args.Name))
	})

	info, err := welcome.Delay(ctx, client, welcomeArgs{Name: "Ada"})
	if err != nil {
		log.Fatal(err)
	}
	inspector := asynq.NewInspectorFromRedisClient(rdb)
	stored, err := inspector.GetTaskInfo("default", info.ID)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("Redis sees type", stored.Type[:len("sealed:")]+"..., payload sealed:", jobs.IsSealed(stored.Payload))

	srv := exampleServe(rdb, e, mux)
	<-processed
	srv.Shutdown()
	if stored, err = inspector.GetTaskInfo("default", info.ID); err != nil {
		log.Fatal(err)
	}
	result, err := client.OpenResult(ctx, stored)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("result: %s\n", result)
	// Output:
	// Redis sees type sealed:..., payload sealed: true
	// welcome, Ada
	// result: sent to Ada
}

// Tasks of an application that used asynq before: only the constructor is another.
func ExampleNewClient() {
	rdb, stop := exampleRedis()
	defer stop()
	client, err := asynqjobs.NewClient(asynq.NewClientFromRedisClient(rdb), exampleEncryptor())
	if err != nil {
		log.Fatal(err)
	}
	task := asynq.NewTask("invoice:send", []byte(`{"invoice":17}`), asynq.MaxRetry(3))
	info, err := client.Enqueue(task, asynq.Unique(time.Hour))
	fmt.Println(info.Type, info.MaxRetry, err)
	_, err = client.Enqueue(task, asynq.Unique(time.Hour))
	fmt.Println(errors.Is(err, asynq.ErrDuplicateTask))
	// Output:
	// invoice:send 3 <nil>
	// true
}

// A periodic job, registered by however many processes.
func ExampleScheduler() {
	ctx := context.Background()
	rdb, stop := exampleRedis()
	defer stop()
	client, err := asynqjobs.NewClient(asynq.NewClientFromRedisClient(rdb), exampleEncryptor())
	if err != nil {
		log.Fatal(err)
	}
	scheduler, err := asynqjobs.NewScheduler(rdb, client)
	if err != nil {
		log.Fatal(err)
	}
	report := asynqjobs.Define[string]("report")
	for range 3 { // three processes start
		changed, err := report.ScheduleOnce(ctx, scheduler, "nightly report", asynqjobs.Cron("CRON_TZ=Europe/Berlin 30 4 * * *"), "board")
		fmt.Println(changed, err)
	}
	changed, err := report.ScheduleOnce(ctx, scheduler, "nightly report", asynqjobs.Every(24*time.Hour), "board")
	fmt.Println(changed, err)
	list, err := scheduler.List(ctx)
	for _, s := range list {
		fmt.Println(s.Name, s.When, s.Type, string(s.Payload), err)
	}
	// Each process then runs it: go scheduler.Run(ctx)
	canceled, err := scheduler.Cancel(ctx, "nightly report")
	fmt.Println(canceled, err)
	// Output:
	// true <nil>
	// false <nil>
	// false <nil>
	// true <nil>
	// nightly report @every 24h0m0s report "board" <nil>
	// true <nil>
}

// A plaintext task is refused, and the archive says why.
func ExampleReasonOf() {
	rdb, stop := exampleRedis()
	defer stop()
	intruder := asynq.NewClientFromRedisClient(rdb)
	if _, err := intruder.Enqueue(asynq.NewTask("user:delete", []byte("ada")), asynq.TaskID("1")); err != nil {
		log.Fatal(err)
	}
	mux := asynq.NewServeMux()
	mux.HandleFunc("user:delete", func(context.Context, *asynq.Task) error {
		fmt.Println("deleted")
		return nil
	})
	e := exampleEncryptor()
	cfg, err := asynqjobs.Config(e, asynq.Config{LogLevel: asynq.FatalLevel, TaskCheckInterval: 10 * time.Millisecond})
	if err != nil {
		log.Fatal(err)
	}
	handler, err := asynqjobs.Handler(e, mux, asynqjobs.WithLogger(quiet))
	if err != nil {
		log.Fatal(err)
	}
	srv := asynq.NewServerFromRedisClient(rdb, cfg)
	if err := srv.Start(handler); err != nil {
		log.Fatal(err)
	}
	inspector := asynq.NewInspectorFromRedisClient(rdb)
	for {
		info, err := inspector.GetTaskInfo("default", "1")
		if err != nil {
			log.Fatal(err)
		}
		if info.State == asynq.TaskStateArchived {
			reason, _ := asynqjobs.ReasonOf(info)
			fmt.Println(info.State, reason)
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	srv.Shutdown()
	// Output: archived not_sealed
}

// Many jobs in one round trip. Each has its own options and its own result.
func ExampleClient_EnqueueMany() {
	rdb, stop := exampleRedis()
	defer stop()
	encryptor := exampleEncryptor()
	client, err := asynqjobs.NewClient(asynq.NewClientFromRedisClient(rdb), encryptor, asynqjobs.WithPipeline(rdb))
	if err != nil {
		log.Fatal(err)
	}
	tasks := []*asynq.Task{
		asynq.NewTask("mail:welcome", []byte("Ada"), asynq.Unique(time.Hour)),
		asynq.NewTask("mail:welcome", []byte("Ada"), asynq.Unique(time.Hour)),
		asynq.NewTask("mail:welcome", []byte("Grace"), asynq.ProcessIn(time.Hour)),
	}
	infos, err := client.EnqueueMany(context.Background(), tasks, asynq.Queue("mail"))
	var failed *asynqjobs.BatchError
	if errors.As(err, &failed) {
		fmt.Println(failed)
	}
	for i, info := range infos {
		if info == nil {
			fmt.Println(i, "duplicate:", errors.Is(failed.Errors[i], asynq.ErrDuplicateTask))
			continue
		}
		fmt.Println(i, info.State)
	}
	// Output:
	// asynqjobs: EnqueueMany: 1 of 3 tasks failed (see BatchError.Errors): duplicate of a unique task (1)
	// 0 pending
	// 1 duplicate: true
	// 2 scheduled
}
