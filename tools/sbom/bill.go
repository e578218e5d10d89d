package main

import (
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// document is the part of CycloneDX 1.6 that is used.
type document struct {
	Format     string      `json:"bomFormat"`
	Version    string      `json:"specVersion"`
	Revision   int         `json:"version"`
	Metadata   metadata    `json:"metadata"`
	Components []component `json:"components"`
}

type metadata struct {
	Component component `json:"component"`
}

type component struct {
	Type       string     `json:"type"`
	Ref        string     `json:"bom-ref,omitempty"`
	Name       string     `json:"name"`
	Version    string     `json:"version,omitempty"`
	Hashes     []hash     `json:"hashes,omitempty"`
	Licences   []choice   `json:"licenses,omitempty"`
	PackageURL string     `json:"purl,omitempty"`
	Properties []property `json:"properties,omitempty"`
}

type hash struct {
	Algorithm string `json:"alg"`
	Content   string `json:"content"`
}

type choice struct {
	Licence struct {
		ID string `json:"id"` // of SPDX
	} `json:"license"`
}

type property struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// writeBill writes the bill of the binaries. A module that is not among those shipped has no
// licence that anybody looked at: an error.
func writeBill(out io.Writer, binaries []string, shipped map[string]module) error {
	if len(binaries) == 0 {
		return errors.New("name the binaries")
	}
	d := document{Format: "CycloneDX", Version: "1.6", Revision: 1}
	modules := map[string]component{}
	for _, name := range binaries {
		info, err := buildinfo.ReadFile(name)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		d.Metadata.Component = component{Type: "application", Ref: info.Main.Path, Name: info.Main.Path}
		binary, err := fileOf(name)
		if err != nil {
			return err
		}
		d.Components = append(d.Components, binary)
		modules["std"] = library("std", strings.TrimPrefix(info.GoVersion, "go"), "", "BSD-3-Clause")
		for _, m := range info.Deps {
			if m.Replace != nil {
				m = m.Replace
			}
			licence, err := shipped[m.Path].licence()
			if err != nil {
				return fmt.Errorf("%s: %s: %w", name, m.Path, err)
			}
			modules[m.Path+"@"+m.Version] = library(m.Path, m.Version, m.Sum, licence)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(modules)) {
		d.Components = append(d.Components, modules[key])
	}
	e := json.NewEncoder(out)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(d)
}

// fileOf is a binary with its hash. The functions' binaries all have one name: their folder
// tells them apart.
func fileOf(name string) (component, error) {
	b, err := os.ReadFile(name)
	if err != nil {
		return component{}, err
	}
	sum := sha256.Sum256(b)
	short := filepath.Base(name)
	if short == "bootstrap" {
		short = filepath.Base(filepath.Dir(name)) + "/" + short
	}
	return component{Type: "file", Name: short, Hashes: []hash{{"SHA-256", hex.EncodeToString(sum[:])}}}, nil
}

// library is a Go module. Its h1 hash is that of go.sum: SHA-256 of the names and hashes of its
// files, and not of an archive, so it is no hash in CycloneDX's sense and goes under properties.
func library(path, version, sum, licence string) component {
	c := component{Type: "library", Name: path, Version: version, PackageURL: "pkg:golang/" + path + "@" + version}
	c.Ref = c.PackageURL
	c.Licences = make([]choice, 1)
	c.Licences[0].Licence.ID = licence
	if h1, ok := strings.CutPrefix(sum, "h1:"); ok {
		if raw, err := base64.StdEncoding.DecodeString(h1); err == nil {
			c.Properties = []property{{"evergrant:go.sum:h1", hex.EncodeToString(raw)}}
		}
	}
	return c
}
