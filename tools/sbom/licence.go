package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// A module is one of others that is linked into what is shipped.
type module struct {
	Path string
	Main bool
	Dir  string // of its source
}

// shipped are the modules that the functions, the command line and the Go client link on
// Linux, by their paths. root is the repository.
func shipped(root string) (map[string]module, error) {
	list := exec.Command("go", "list", "-deps", "-json=Module", "./functions/...", "./cmd/evergrant", "./client/...")
	list.Dir = root
	list.Env = append(os.Environ(), "GOOS=linux", "GOARCH=arm64", "CGO_ENABLED=0")
	list.Stderr = os.Stderr
	out, err := list.Output()
	if err != nil {
		return nil, fmt.Errorf("go list: %w", err)
	}
	modules := map[string]module{}
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p struct{ Module *module }
		switch err := d.Decode(&p); {
		case errors.Is(err, io.EOF):
			return modules, nil
		case err != nil:
			return nil, fmt.Errorf("go list: %w", err)
		case p.Module != nil && !p.Module.Main:
			modules[p.Module.Path] = *p.Module
		}
	}
}

// texts are the module's licence and, where it has one, its NOTICE, which Apache 2.0 section
// 4 (d) wants passed on.
func (m module) texts() ([]string, error) {
	if m.Dir == "" {
		return nil, errors.New("the module is not among those shipped")
	}
	var found []string
	for _, name := range []string{"LICENSE", "LICENSE.txt", "LICENSE.md", "LICENCE", "COPYING", "NOTICE", "NOTICE.txt"} {
		text, err := os.ReadFile(filepath.Join(m.Dir, name))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		if err == nil {
			found = append(found, string(text))
		}
	}
	if len(found) == 0 {
		return nil, errors.New("the module has no file with a licence")
	}
	return found, nil
}

// licence is the SPDX id of the module's licence, told by words of its text. One that is not
// of these four is an error: somebody has to read it first.
func (m module) licence() (string, error) {
	texts, err := m.texts()
	if err != nil {
		return "", err
	}
	text := strings.Join(strings.Fields(texts[0]), " ")
	switch {
	case strings.Contains(text, "Apache License Version 2.0"):
		return "Apache-2.0", nil
	case strings.Contains(text, "Permission is hereby granted, free of charge"):
		return "MIT", nil
	case strings.Contains(text, "Redistribution and use in source") && strings.Contains(text, "Neither the name"):
		return "BSD-3-Clause", nil
	case strings.Contains(text, "Redistribution and use in source"):
		return "BSD-2-Clause", nil
	}
	return "", errors.New("the module's licence is none that is known here")
}

// licencePage is docs/licences.md.
func licencePage(modules map[string]module) ([]byte, error) {
	page := bytes.NewBufferString(`# Licences

What is linked into the functions, the command line and the Go client, with the licence that each module's own
file gives it. ` + "`make licences`" + ` writes this page; a test fails where a module is missing here, or has a licence
that nobody has looked at. ` + "`make licences` also collects the texts in `build/licences.txt`, which must go along" + `
with a binary that you pass on. Versions are in ` + "`go.mod`, and in the bill of materials of `make sbom`" + `.

| module | licence |
|---|---|
| the Go standard library | BSD-3-Clause |
`)
	var wrong error
	for _, path := range slices.Sorted(maps.Keys(modules)) {
		id, err := modules[path].licence()
		if err != nil {
			wrong = errors.Join(wrong, fmt.Errorf("%s: %w", path, err))
		}
		fmt.Fprintf(page, "| `%s` | %s |\n", path, id)
	}
	return page.Bytes(), wrong
}

// writeTexts writes the texts of all licences, Go's own first.
func writeTexts(out io.Writer, modules map[string]module) error {
	root, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		return fmt.Errorf("go env: %w", err)
	}
	all := maps.Clone(modules)
	all["Go"] = module{Path: "Go", Dir: strings.TrimSpace(string(root))}
	for _, path := range slices.Sorted(maps.Keys(all)) {
		texts, err := all[path].texts()
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		fmt.Fprintf(out, "==== %s\n\n%s\n\n", path, strings.TrimSpace(strings.Join(texts, "\n\n")))
	}
	return nil
}
