// Benchmarks measures the claims of this module about speed and size, and prints them as ratios next to the budgets:
//
//	go run ./benchmarks
//
// Every figure compares two ways of doing the same thing within one run, in short slices that alternate (A B C, C B A,
// ...). A slice is compared only with the other slice of its round, because a slow phase of the machine slows both. The
// program prints the median of the rounds' ratios, with the smallest and the largest. README.md describes each row.
//
// A missed budget is printed as MISSED. The exit status stays 0 unless -strict is given, because the speed of a machine
// at one moment says nothing about a change.
//
// # Adding a row
//
// A row is one file, row_NAME.go, with a function that takes a *bench, and a line in rows. The function asks
// bench.wants for each case, measures with interleave, and gives each figure to bench.report. It must work at each
// scale; TestEveryRow runs it at the smallest. Checks that the row measures what it claims (the store holds sealed
// bytes, the value read is the one written) belong to the row, outside the timed part.
package main
