//go:build !race

package asynqjobs_test

const raceEnabled = false
