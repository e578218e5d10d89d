// Command providersdocs writes docs/providers from the catalogue: a page for each
// provider that has none written by hand, and the table of all. It is run from the root
// of the repository, as make providers-docs does.
package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/evergrant/evergrant/internal/provider"
	"github.com/evergrant/evergrant/internal/provider/page"
)

func main() {
	if err := run("docs/providers"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(folder string) error {
	var all []provider.Entry
	for _, id := range provider.IDs() {
		e, err := provider.Lookup(id)
		if err != nil {
			return err
		}
		all = append(all, e)
		if err := write(filepath.Join(folder, id+".md"), page.Markdown(e)); err != nil {
			return err
		}
	}
	return table(filepath.Join(folder, "README.md"), all)
}

// write leaves a page alone that was written by hand.
func write(name, text string) error {
	old, err := os.ReadFile(name)
	if err == nil && !bytes.HasPrefix(old, []byte(page.Generated)) {
		return nil
	}
	return os.WriteFile(name, []byte(text), 0o644)
}

// table replaces what stands between the marks of the overview.
func table(name string, all []provider.Entry) error {
	old, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	before, rest, found := strings.Cut(string(old), page.TableBegin)
	_, after, ended := strings.Cut(rest, page.TableEnd)
	if !found || !ended {
		return fmt.Errorf("%s has no marks for the table", name)
	}
	return os.WriteFile(name, []byte(before+page.TableBegin+"\n"+page.Table(all)+page.TableEnd+after), 0o644)
}
