// Command charts draws charts from the file results.json that the program ./benchmarks writes with -save:
//
//	go run ./benchmarks -save bench-results
//	cd benchmarks/compare && go run ./charts -o ../../bench-results ../../bench-results/results.json
//
// It draws the results that are ratios, and writes SVG files. If a case ran with several numbers of concurrent callers,
// its chart has curves, with this number on the x axis. All other ratios of a benchmark are in one bar chart.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/plotutil"
	"gonum.org/v1/plot/vg"
)

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

func run(args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("charts", flag.ContinueOnError)
	flags.SetOutput(stderr)
	folder := flags.String("o", ".", "`folder` of the charts")
	if err := flags.Parse(args); err != nil {
		return 2
	}
	if flags.NArg() != 1 {
		fmt.Fprintln(stderr, "usage: charts [-o folder] results.json")
		return 2
	}
	names, err := draw(flags.Arg(0), *folder)
	for _, name := range names {
		fmt.Fprintln(stdout, name)
	}
	if err != nil {
		fmt.Fprintf(stderr, "charts: %v\n", err)
		return 1
	}
	return 0
}

// report is the part of results.json that is drawn.
type report struct {
	Machine struct {
		Go     string `json:"go"`
		System string `json:"system"`
		CPU    string `json:"cpu"`
		CPUs   int    `json:"cpus"`
		Redis  string `json:"redis"`
		Load   string `json:"load"`
	} `json:"machine"`
	Results []result `json:"results"`
}

type result struct {
	Row   string `json:"row"`
	Case  string `json:"case"`
	What  string `json:"what"`
	Unit  string `json:"unit"`
	Value struct {
		Median float64 `json:"median"`
	} `json:"value"`
}

// callers matches a case that names the number of callers.
var callers = regexp.MustCompile(`^(.*), (\d+) callers(.*)$`)

// draw writes the charts and returns their files.
func draw(file, folder string) (names []string, err error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var r report
	if err := json.Unmarshal(b, &r); err != nil {
		return nil, fmt.Errorf("read the results in %s: %w", file, err)
	}
	if err := os.MkdirAll(folder, 0o750); err != nil {
		return nil, err
	}
	m := r.Machine
	machine := fmt.Sprintf("%s, %s, %d CPUs %s, Redis %s, load %s", m.Go, m.System, m.CPUs, m.CPU, m.Redis, m.Load)
	charts, grouped := group(r.Results)
	for _, name := range charts {
		p := plot.New()
		p.Title.Text = name + "\n" + machine
		width, height := vg.Points(620), vg.Points(360)
		if series := curves(grouped[name]); series != nil && name != grouped[name][0].Row {
			err = drawCurves(p, series)
		} else {
			width, height = vg.Points(900), vg.Points(float64(120+22*len(grouped[name])))
			err = drawBars(p, grouped[name])
		}
		if err != nil {
			return names, fmt.Errorf("draw the chart %q: %w", name, err)
		}
		path := filepath.Join(folder, fileName(name)+".svg")
		if err := p.Save(width, height, path); err != nil {
			return names, err
		}
		names = append(names, path)
	}
	return names, nil
}

// group returns the results that share a chart, and the names of the charts in the order of the results. Results of one
// size that differ in the number of callers share one; all others of a row do.
func group(results []result) (charts []string, grouped map[string][]result) {
	numbers := map[string]map[string]bool{}
	chartOf := func(r result) (name, number string) {
		if parts := callers.FindStringSubmatch(r.Case); parts != nil {
			return r.Row + " " + parts[1] + parts[3], parts[2]
		}
		return r.Row, ""
	}
	for _, r := range results {
		name, number := chartOf(r)
		if numbers[name] == nil {
			numbers[name] = map[string]bool{}
		}
		numbers[name][number] = true
	}
	grouped = map[string][]result{}
	for _, r := range results {
		name, number := chartOf(r)
		if r.Unit != "x" || r.Value.Median <= 0 || number != "" && strings.HasSuffix(r.What, ", p99") {
			continue
		}
		if len(numbers[name]) < 2 {
			name = r.Row
		}
		if grouped[name] == nil {
			charts = append(charts, name)
		}
		grouped[name] = append(grouped[name], r)
	}
	return charts, grouped
}

func fileName(name string) string {
	return strings.Trim(regexp.MustCompile(`[^a-z0-9.]+`).ReplaceAllString(strings.ToLower(name), "-"), "-")
}

// curve is the results of one implementation over the number of callers.
type curve struct {
	name   string
	points plotter.XYs
}

// curves returns the results as curves, or nil if fewer than two numbers of callers are measured.
func curves(results []result) []curve {
	var all []curve
	for _, r := range results {
		parts := callers.FindStringSubmatch(r.Case)
		if parts == nil {
			return nil
		}
		n, err := strconv.ParseFloat(parts[2], 64)
		if err != nil {
			return nil
		}
		i := slices.IndexFunc(all, func(c curve) bool { return c.name == r.What })
		if i < 0 {
			i = len(all)
			all = append(all, curve{name: r.What})
		}
		all[i].points = append(all[i].points, plotter.XY{X: n, Y: r.Value.Median})
	}
	for _, c := range all {
		if len(c.points) < 2 {
			return nil
		}
	}
	return all
}

func drawCurves(p *plot.Plot, series []curve) error {
	p.X.Label.Text, p.Y.Label.Text = "concurrent callers (logarithmic)", "throughput / baseline (x)"
	p.X.Scale, p.X.Tick.Marker = plot.LogScale{}, ticksAt(series)
	p.Y.Min = 0
	p.Legend.Top, p.Legend.Left = true, true
	var lines []any
	for _, c := range series {
		lines = append(lines, c.name, c.points)
	}
	if err := plotutil.AddLinePoints(p, lines...); err != nil {
		return err
	}
	p.Add(one(), plotter.NewGrid())
	p.Y.Max *= 1.2 // room for the legend
	return nil
}

// ticksAt marks the numbers of callers that were measured.
func ticksAt(series []curve) plot.ConstantTicks {
	var ticks plot.ConstantTicks
	for _, point := range series[0].points {
		ticks = append(ticks, plot.Tick{Value: point.X, Label: strconv.FormatFloat(point.X, 'f', -1, 64)})
	}
	return ticks
}

// one is the line at which both implementations are equally fast.
func one() *plotter.Function {
	f := plotter.NewFunction(func(float64) float64 { return 1 })
	f.Dashes = []vg.Length{vg.Points(4), vg.Points(3)}
	return f
}

func drawBars(p *plot.Plot, results []result) error {
	p.X.Label.Text = "ratio (x); at 1 both are equal"
	values, names := make(plotter.Values, len(results)), make([]string, len(results))
	for i, r := range results {
		j := len(results) - 1 - i // the first on top
		values[j], names[j] = r.Value.Median, r.Case+": "+r.What
	}
	bars, err := plotter.NewBarChart(values, vg.Points(12))
	if err != nil {
		return err
	}
	bars.Horizontal, bars.Color, bars.LineStyle.Width = true, plotutil.Color(0), 0
	equal, err := plotter.NewLine(plotter.XYs{{X: 1, Y: -0.5}, {X: 1, Y: float64(len(results)) - 0.5}})
	if err != nil {
		return err
	}
	equal.Dashes = []vg.Length{vg.Points(4), vg.Points(3)}
	p.Add(bars, equal)
	p.NominalY(names...)
	p.X.Min, p.X.Max = 0, 1.05*max(1, slices.Max(values))
	return nil
}
