// Benchmarks measures what this module claims about its speed and size, and prints it as ratios beside the budgets:
//
//	go run ./benchmarks
//
// Every figure compares two ways of doing the same thing, within one run, in short slices that alternate (A B C, C B A,
// ...). A slice is compared with the other one of its round only, so that what slows the machine down for a while slows
// both. It prints the median of the rounds' ratios, with the smallest and the largest. README.md says what each
// row is.
//
// A missed budget is printed as MISSED. The exit status stays 0, unless -strict is given: how fast a machine is at the
// moment says nothing about a change.
//
// # Adding a row
//
// A row is one file, row_NAME.go, with a function that takes a *bench, and a line in rows. It asks bench.wants which of
// its cases are to be run, measures with bench.interleave, and hands each figure to bench.report. It must work at each
// scale; TestEveryRow runs it at the smallest. Checks that the row measures what it claims (that the store holds
// sealed bytes, that the value read is the one written) belong to the row, outside the timed part.
package main
