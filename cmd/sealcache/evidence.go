package main

import (
	"context"
	"crypto/fips140"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"slices"
	"time"
)

func evidenceCommand() entry {
	return entry{
		use: "evidence", short: "Report keys, caches and audits for an auditor", make: func() command { return new(evidenceRun) },
		long: "Evidence writes one report for an auditor. It holds no key material and no secret, and changes nothing. It lists:\n\n" +
			"  - every key with its algorithm, state and age\n" +
			"  - the key-encryption keys (KEKs), without credentials, and the contexts with which they encrypt data keys\n" +
			"  - the FIPS 140 module of this program\n" +
			"  - audits with their answers\n" +
			"  - caches that store or accept plaintext, and until when\n" +
			"  - certificates of destroyed keys\n\n" +
			"The keysets are those of --config and that of --kek. The report says what it did not examine, and lists as findings what an\n" +
			"auditor will ask about. The status is 0 if the report is written. With --check it is 3 if there are findings, and otherwise 4\n" +
			"if something was not examined. A keyset, KEK or file that cannot be read ends the command without a report.",
		example: keysEnv + "  sealcache evidence --audit audit.json --certificate destroyed.json > evidence.md\n" +
			"  sealcache evidence --config /etc/shop/sealcache.yaml --audit audit.json --report evidence.json --markdown evidence.md",
	}
}

// evidenceRun is "evidence".
type evidenceRun struct {
	keys         keysetFlags
	context      map[string]string // of the data keys that --kek or --keyset wraps
	contextState string
	config       string
	audits       []string
	certificates []string
	maxAge       time.Duration // of an audit; 0 for any
	report       string
	markdown     string
	json, check  bool
}

func (e *evidenceRun) declare(f *flags) {
	f.env(&e.keys.kek, "kek", "SEALCACHE_KEK", "`URI` of the key-encryption key that seals the keyset; without --keyset, the key-encryption key alone")
	f.otherKEKs(&e.keys.others)
	f.env(&e.keys.keyset, "keyset", "SEALCACHE_KEYSET", "`FILE` of the keyset; '' for none")
	f.env(&e.keys.name, "keyset-name", "SEALCACHE_KEYSET_NAME", "`NAME` that the keyset was bound to when it was made")
	f.wrapContext(&e.context, &e.contextState)
	f.StringVar(&e.config, "config", "", "`FILE` with the application's settings in YAML, or env for the SEALCACHE_ variables: their caches and keysets are reported")
	f.StringArrayVar(&e.audits, "audit", nil, "`FILE` that \"sealcache audit --report FILE\" wrote; may be repeated")
	f.DurationVar(&e.maxAge, "max-audit-age", 24*time.Hour, "report an audit as a finding if it began longer ago than this `DURATION`; 0 accepts any age")
	f.StringArrayVar(&e.certificates, "certificate", nil, "`FILE` with what \"sealcache keys destroy\" printed; may be repeated")
	f.StringVar(&e.report, "report", "", "write the report as JSON to this `FILE`, too")
	f.StringVar(&e.markdown, "markdown", "", "write the report as Markdown to this `FILE`, too")
	f.BoolVar(&e.json, "json", false, jsonUse+" instead of Markdown")
	f.BoolVar(&e.check, "check", false, "end with status 3 if there are findings, and with 4 if something was not examined")
	f.config = e.fileConfig
	f.need("kek", "config")
	f.file("keyset", "config", "audit", "certificate", "report", "markdown")
}

// evidence is the report of "evidence".
type evidence struct {
	header
	Made         time.Time         `json:"made_at"`
	Build        build             `json:"build"`
	FIPS         fipsEvidence      `json:"fips140"`
	KEKs         []kekEvidence     `json:"keks"`
	Keysets      []keysetEvidence  `json:"keysets"`
	Caches       []cacheEvidence   `json:"caches"`
	Jobs         *jobsEvidence     `json:"jobs"` // null if the settings have none
	Audits       []auditEvidence   `json:"audits"`
	Certificates []destroyEvidence `json:"certificates"`
	Findings     []string          `json:"findings"`
	NotExamined  []string          `json:"not_examined"`
	NotCovered   string            `json:"not_covered"`
}

// fipsEvidence describes the cryptography of this program, which is not that of the application.
type fipsEvidence struct {
	Module   string `json:"module"` // the version of the Go Cryptographic Module
	Enabled  bool   `json:"enabled"`
	Enforced bool   `json:"enforced"` // only approved algorithms: GODEBUG=fips140=only
	Built    string `json:"built_with,omitempty"`
}

// outsideEvidence lists what the report cannot show.
const outsideEvidence = "other servers, backups and dumps; the access rules, key versions and logs of a key service; the build and the FIPS mode of the application"

func fips() fipsEvidence {
	f := fipsEvidence{Module: fips140.Version(), Enabled: fips140.Enabled(), Enforced: fips140.Enforced()}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "GOFIPS140" {
				f.Built = "GOFIPS140=" + s.Value
			}
		}
	}
	return f
}

func (e *evidenceRun) run(ctx context.Context, p *program, f *flags) (int, error) {
	if e.maxAge < 0 {
		return 0, wrong("--max-audit-age must not be negative (0 accepts any age)")
	}
	if e.keys.kek == "" {
		if err := f.refuseWithout("--kek", "keyset", "keyset-name", "other-kek", "wrap-context", "wrap-context-state"); err != nil {
			return 0, err
		}
	}
	if err := f.checkAlone("", e.keys.keyset, e.context); err != nil {
		return 0, err
	}
	if samePath(e.report, e.markdown) {
		return 0, wrong("--report and --markdown name the same file")
	}
	err := errors.Join(
		reportWritable("report", e.report, isReport(commandOf(f))),
		reportWritable("markdown", e.markdown, isMarkdown),
	)
	if err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, 2*keyTimeout)
	defer cancel()
	now := time.Now().UTC().Truncate(time.Second)
	r := &evidence{
		header: newHeader(f), Made: now, Build: thisBuild(), FIPS: fips(), NotCovered: outsideEvidence,
		KEKs: []kekEvidence{}, Keysets: []keysetEvidence{}, Caches: []cacheEvidence{}, Audits: []auditEvidence{},
		Certificates: []destroyEvidence{}, Findings: []string{}, NotExamined: []string{},
	}
	wanted, err := e.settings(r)
	if err != nil {
		return 0, err
	}
	keys := newInventory(r, now)
	defer keys.close()
	for _, w := range wanted {
		if err := keys.add(ctx, w); err != nil {
			return 0, fmt.Errorf("read the encryption keys of %s: %w", w.origin, err)
		}
	}
	if err := e.files(r); err != nil {
		return 0, err
	}
	r.find(e.maxAge)
	if err := e.write(p, r); err != nil {
		return 0, err
	}
	switch {
	case e.check && len(r.Findings) > 0:
		return exitLeft, nil
	case e.check && len(r.NotExamined) > 0:
		return exitUnknown, nil
	default:
		return exitDone, nil
	}
}

// files reads the audits and the certificates, the latest first.
func (e *evidenceRun) files(r *evidence) error {
	for _, path := range e.audits {
		a, err := readAudit(path)
		if err != nil {
			return fmt.Errorf("--audit: %w", err)
		}
		r.Audits = append(r.Audits, a)
	}
	for _, path := range e.certificates {
		c, err := readCertificate(path)
		if err != nil {
			return fmt.Errorf("--certificate: %w", err)
		}
		r.Certificates = append(r.Certificates, c)
	}
	slices.SortStableFunc(r.Audits, func(a, b auditEvidence) int { return b.Started.Compare(a.Started) })
	slices.SortStableFunc(r.Certificates, func(a, b destroyEvidence) int { return b.At.Compare(a.At) })
	return nil
}

func (e *evidenceRun) write(p *program, r *evidence) error {
	data, err := indent(r)
	if err != nil {
		return err
	}
	text := []byte(r.markdown())
	shown := text
	if e.json {
		shown = data
	}
	_, err = p.stdout.Write(shown)
	errs := []error{err}
	for _, file := range []struct {
		path    string
		content []byte
	}{{e.report, data}, {e.markdown, text}} {
		if file.path != "" {
			if err := replaceFile(file.path, file.content); err != nil {
				errs = append(errs, fmt.Errorf("cannot write the file of the report: %w", err))
			}
		}
	}
	return errors.Join(errs...)
}

// readInput reads a file that an operator names. It is at most 64 MiB.
func readInput(path string) ([]byte, error) {
	const most = 64 << 20
	f, err := openRegular(path, os.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, most+1))
	switch {
	case err != nil:
		return nil, fileError(err)
	case len(data) > most:
		return nil, wrong("the file %s is too large: it has more than %d bytes (check the path)", path, most)
	}
	return data, nil
}
