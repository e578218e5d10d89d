package main

import (
	"archive/zip"
	"bytes"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestTheSameBinaryGivesTheSameArchive(t *testing.T) {
	binary := bytes.Repeat([]byte("a program "), 1000)
	archives := [2][]byte{}
	for i := range archives {
		folder := t.TempDir()
		path := filepath.Join(folder, "bootstrap")
		if err := os.WriteFile(path, binary, 0o700); err != nil {
			t.Fatal(err)
		}
		// What the file system adds, its time among it, must not get in.
		if err := os.Chtimes(path, time.Time{}, time.Unix(int64(i)*1e9, 0)); err != nil {
			t.Fatal(err)
		}
		size, err := pack(folder+".zip", path)
		if err != nil {
			t.Fatal(err)
		}
		if archives[i], err = os.ReadFile(folder + ".zip"); err != nil {
			t.Fatal(err)
		}
		if size != int64(len(archives[i])) {
			t.Errorf("size %d, but the file has %d", size, len(archives[i]))
		}
	}
	if !bytes.Equal(archives[0], archives[1]) {
		t.Error("two archives of the same binary differ")
	}

	r, err := zip.NewReader(bytes.NewReader(archives[0]), int64(len(archives[0])))
	if err != nil {
		t.Fatal(err)
	}
	if len(r.File) != 1 || r.File[0].Name != "bootstrap" || r.File[0].Mode() != 0o755 {
		t.Fatalf("entries: %v", r.File)
	}
	entry, err := r.File[0].Open()
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(entry); err != nil || !bytes.Equal(got, binary) {
		t.Errorf("%d bytes come out, %v", len(got), err)
	}
}
