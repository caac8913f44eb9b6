// Command benchmarks measures the speed of sealcache and the size of the values that it stores. Most results are ratios,
// such as the time with encryption to the time without it. This command runs all benchmarks:
//
//	go run ./benchmarks
//
// A result can have a budget. The budget is the largest or smallest acceptable result. The command prints the budget next
// to the result. If the result is not acceptable, the command also prints MISSED. With the flag -strict, the exit status
// is then 1. Without this flag, a missed budget does not change the exit status, because the speed of the machine changes.
//
// For each ratio, the command measures two ways of doing the same thing in one run, such as with and without encryption.
// The two ways take turns in short slices of time (A B, B A, ...). The command divides the speed of each slice of A by the
// speed of the slice of B next to it. A slow phase of the machine slows both slices, so it hardly changes the ratio. For
// each result, the command prints the median, the smallest and the largest value. The file benchmarks/README.md describes
// each benchmark.
//
// # Adding a row
//
// A row is one benchmark of the printed table. Write a function that takes a *bench, in a file row_NAME.go. Add this
// function to the list that rows() returns. A row has one or more cases, such as sizes of values. For each case, the
// function does the following:
//
//   - It skips the case if bench.wants reports that the user did not select it.
//   - It measures with interleave, which runs the slices.
//   - It passes each result to bench.report.
//   - It passes the error of each call to bench.Check, which ends the row if the error is not nil.
//
// Outside the measured time, the function checks that it measures the right thing. For example, the store must hold sealed
// bytes. TestEveryRow runs each row with few repetitions.
package main
