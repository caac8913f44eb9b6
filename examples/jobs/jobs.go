package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hibiken/asynq"
	"go.uber.org/fx"

	"github.com/sealcache/sealcache/middleware/jobs/asynqjobs"
)

// The jobs of this application: producers and workers share these definitions.
type catalogue struct {
	welcome *asynqjobs.Job[welcomeArgs]
	charge  *asynqjobs.Job[chargeArgs]
	refund  *asynqjobs.Job[chargeArgs]
	crash   *asynqjobs.Job[chargeArgs]
	digest  *asynqjobs.Job[digestArgs]
}

type (
	welcomeArgs struct{ Name, Email string }
	chargeArgs  struct {
		Card  string
		Cents int
	}
	digestArgs struct{ To string }
)

func jobsOfThisApplication() catalogue {
	return catalogue{
		welcome: asynqjobs.Define[welcomeArgs]("mail:welcome", asynq.Retention(time.Hour)),
		charge:  asynqjobs.Define[chargeArgs]("card:charge", asynq.MaxRetry(3), asynq.Retention(time.Hour)),
		refund:  asynqjobs.Define[chargeArgs]("card:refund"),
		crash:   asynqjobs.Define[chargeArgs]("card:crash", asynq.MaxRetry(0)),
		digest:  asynqjobs.Define[digestArgs]("mail:digest"),
	}
}

// newAsynqConfig makes asynq look at its queues often and log little.
func newAsynqConfig() asynq.Config {
	return asynq.Config{
		TaskCheckInterval:        50 * time.Millisecond,
		DelayedTaskCheckInterval: 200 * time.Millisecond,
		RetryDelayFunc:           func(int, error, *asynq.Task) time.Duration { return time.Second },
		LogLevel:                 asynq.FatalLevel,
	}
}

// newMux returns the handlers that fxjobs.Worker runs.
func newMux(p *printer) *asynq.ServeMux {
	c, mux := jobsOfThisApplication(), asynq.NewServeMux()
	c.welcome.Handle(mux, func(ctx context.Context, args welcomeArgs) error {
		p.printf("  handler of mail:welcome: %s <%s>", args.Name, args.Email)
		return asynqjobs.WriteResult(ctx, []byte("delivered to "+args.Email))
	})
	c.charge.Handle(mux, func(ctx context.Context, args chargeArgs) error {
		if n, _ := asynq.GetRetryCount(ctx); n == 0 {
			p.printf("  handler of card:charge: declined, will be tried again")
			return fmt.Errorf("card %s was declined", args.Card)
		}
		p.printf("  handler of card:charge: %d cents, at the second try", args.Cents)
		return nil
	})
	c.refund.Handle(mux, func(_ context.Context, args chargeArgs) error {
		return fmt.Errorf("card %s has expired: %w", args.Card, asynq.SkipRetry)
	})
	c.crash.Handle(mux, func(_ context.Context, args chargeArgs) error {
		panic("no plan for card " + args.Card)
	})
	c.digest.Handle(mux, func(_ context.Context, args digestArgs) error {
		p.tick(args.To)
		return nil
	})
	return mux
}

// registerDigest runs in each process that starts. Redis keeps one schedule.
func registerDigest(lc fx.Lifecycle, s *asynqjobs.Scheduler, p *printer) {
	lc.Append(fx.StartHook(func(ctx context.Context) error {
		p.printf("one schedule, registered three times:")
		for range 3 {
			changed, err := jobsOfThisApplication().digest.ScheduleOnce(ctx, s, "digest for the board", asynqjobs.Every(time.Second), digestArgs{To: "board@example.org"})
			if err != nil {
				return errors.Join(errors.New("the job that mails the digest could not be scheduled"), err)
			}
			p.printf("  schedule changed: %v", changed)
		}
		return nil
	}))
}
