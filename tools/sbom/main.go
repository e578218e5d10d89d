// Sbom writes the bill of materials of binaries in CycloneDX 1.6: every module that is linked
// into them, with its version, the hash that go.sum has of it, and its licence. It reads what
// the Go linker put into the binaries, so it tells what is there and not what a file says
// should be. The same binaries give the same bytes: it holds no time and no random number.
//
//	sbom BINARY...           writes the bill to standard output
//	sbom -licences FOLDER    writes the licences of what is shipped: FOLDER/licences.md, the list
//	sbom -texts              writes their texts to standard output, to go along with binaries
package main

import (
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

func main() {
	if err := run(os.Stdout, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "sbom:", err)
		os.Exit(1)
	}
}

func run(out io.Writer, args []string) error {
	flags := flag.NewFlagSet("sbom", flag.ContinueOnError)
	folder := flags.String("licences", "", "write licences.md into this folder")
	texts := flags.Bool("texts", false, "write the texts of all licences")
	if err := flags.Parse(args); err != nil {
		return err
	}
	modules, err := shipped(".")
	if err != nil {
		return err
	}
	switch {
	case *folder != "":
		page, err := licencePage(modules)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(*folder, "licences.md"), page, 0o600)
	case *texts:
		return writeTexts(out, modules)
	}
	return writeBill(out, flags.Args(), modules)
}
