//go:build race

package asynqjobs_test

const raceEnabled = true
