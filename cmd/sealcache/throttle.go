package main

import "time"

// throttleFlags bound the load on Redis.
type throttleFlags struct {
	rate, bytes float64
	latency     time.Duration
}

func (t *throttleFlags) declare(f *flags) {
	f.Float64Var(&t.rate, "rate", 0, "at most this number of `ENTRIES` per second; 0 means no limit")
	f.Float64Var(&t.bytes, "bytes-rate", 0, "at most this number of `BYTES` per second; 0 means no limit")
	f.DurationVar(&t.latency, "max-latency", 0, "pause while the 99th percentile of PING is longer than this `DURATION`, as 5ms; 0 means no limit")
}

func (t *throttleFlags) check(f *flags) error {
	return f.notNegative("rate", "bytes-rate", "max-latency")
}
