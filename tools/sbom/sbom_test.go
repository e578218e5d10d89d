package main

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const root = "../.."

func TestThePageOfLicencesIsWhatIsLinked(t *testing.T) {
	modules, err := shipped(root)
	if err != nil || len(modules) < 10 {
		t.Fatalf("%d modules, %v", len(modules), err)
	}
	want, err := licencePage(modules)
	if err != nil {
		t.Fatal(err)
	}
	have, err := os.ReadFile(filepath.Join(root, "docs", "licences.md"))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(have, want) {
		t.Errorf("docs/licences.md is old; run: make licences")
	}
	var texts bytes.Buffer
	if err := writeTexts(&texts, modules); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(texts.String(), "\n==== ") + 1; n < len(modules)+1 {
		t.Errorf("%d texts of %d modules and Go", n, len(modules))
	}
}

func TestALicenceThatNobodyKnowsIsAnError(t *testing.T) {
	for text, want := range map[string]string{
		"":                               "",
		"You may do what we say.":        "",
		"Apache License\n  Version 2.0,": "Apache-2.0",
		"Permission is hereby granted, free\nof charge, to any":                    "MIT",
		"Redistribution and use in source and binary forms. Neither the name of X": "BSD-3-Clause",
		"Redistribution and use in source and binary forms.":                       "BSD-2-Clause",
	} {
		m := module{Path: "m", Dir: t.TempDir()}
		if err := os.WriteFile(filepath.Join(m.Dir, "LICENSE"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if id, err := m.licence(); id != want || (err != nil) != (want == "") {
			t.Errorf("%q is %q, %v", text, id, err)
		}
	}
	for _, m := range []module{{Path: "without a file", Dir: t.TempDir()}, {Path: "not shipped"}} {
		if id, err := m.licence(); err == nil {
			t.Errorf("%s is %s", m.Path, id)
		}
	}
}

func TestABillTellsWhatABinaryLinks(t *testing.T) {
	binary := filepath.Join(t.TempDir(), "authorize", "bootstrap")
	build := exec.Command("go", "build", "-tags", "lambda.norpc", "-trimpath", "-buildvcs=false", "-o", binary, "./functions/authorize")
	build.Dir = root
	build.Env = append(os.Environ(), "GOOS=linux", "GOARCH=arm64", "CGO_ENABLED=0")
	if said, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, said)
	}
	modules, err := shipped(root)
	if err != nil {
		t.Fatal(err)
	}
	var bill, again bytes.Buffer
	if err := writeBill(&bill, []string{binary}, modules); err != nil {
		t.Fatal(err)
	}
	if err := writeBill(&again, []string{binary}, modules); err != nil || bill.String() != again.String() {
		t.Errorf("a second bill is another one: %v", err)
	}
	var d document
	if err := json.Unmarshal(bill.Bytes(), &d); err != nil {
		t.Fatal(err)
	}
	names := []string{}
	for _, c := range d.Components {
		names = append(names, c.Name)
		if c.Type == "library" && (c.Version == "" || len(c.Licences) != 1 || c.Licences[0].Licence.ID == "" || c.Name != "std" && len(c.Properties) != 1) {
			t.Errorf("%+v", c)
		}
	}
	for _, want := range []string{"authorize/bootstrap", "std", "github.com/aws/aws-lambda-go"} {
		if !slices.Contains(names, want) {
			t.Errorf("the bill lacks %s: %v", want, names)
		}
	}
	// Each function has what it needs and no more: the verifier of ID tokens is for those
	// who exchange codes.
	for _, never := range []string{"github.com/coreos/go-oidc/v3", "github.com/goccy/go-yaml", "go.etcd.io/bbolt"} {
		if slices.Contains(names, never) {
			t.Errorf("authorize links %s", never)
		}
	}
	delete(modules, "github.com/aws/aws-lambda-go")
	if err := writeBill(&bill, []string{binary}, modules); err == nil {
		t.Error("a module without a known licence has a bill")
	}
}

func TestABillNeedsBinaries(t *testing.T) {
	if err := writeBill(&bytes.Buffer{}, nil, nil); err == nil {
		t.Error("no binary, and no error")
	}
	if err := writeBill(&bytes.Buffer{}, []string{"main.go"}, nil); err == nil {
		t.Error("a text has a bill")
	}
}
