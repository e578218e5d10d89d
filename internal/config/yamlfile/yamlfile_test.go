package yamlfile_test

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/evergrant/evergrant/internal/config"
	"github.com/evergrant/evergrant/internal/config/yamlfile"
)

var update = flag.Bool("update", false, "write the golden files of mistakes")

// Each archive holds a file and all that is said about it.
func TestEveryMistakeIsToldWithItsPlace(t *testing.T) {
	paths, err := filepath.Glob("testdata/mistakes/*.txtar")
	if err != nil || len(paths) < 25 {
		t.Fatalf("%d archives, %v", len(paths), err)
	}
	for _, path := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txtar"), func(t *testing.T) {
			archive, err := txtar.ParseFile(path)
			if err != nil {
				t.Fatal(err)
			}
			got := mistakesOf(t, archive.Files[0].Data)
			if strings.Contains(got, "SECRET-") {
				t.Errorf("a value that may be a secret is quoted:\n%s", got)
			}
			if *update {
				archive.Files[1].Data = []byte(got)
				if err := os.WriteFile(path, txtar.Format(archive), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if diff := cmp.Diff(string(archive.Files[1].Data), got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func mistakesOf(t *testing.T, data []byte) string {
	t.Helper()
	c, err := yamlfile.Parse(data)
	var mistakes config.Mistakes
	if c != nil || !errors.As(err, &mistakes) {
		t.Fatalf("got %v, %v, want Mistakes", c, err)
	}
	return mistakes.Error() + "\n"
}

func TestLoadNamesTheFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "evergrant.yaml")
	if err := os.WriteFile(path, []byte("integrations: {}\nx: 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := yamlfile.Load(path)
	want := path + ":1:1: integrations: is empty; name at least one integration\n" + path + ":2:1: x: is not a known key"
	if err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
	if _, err := yamlfile.Load(path + ".absent"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

func TestOddFilesAreRefusedAtOnce(t *testing.T) {
	for text, want := range map[string]string{
		"a: \xff":                             "1:1: is not UTF-8",
		strings.Repeat("#", config.MaxSize+1): "1:1: is larger than 1 MiB",
		strings.Repeat("[", 50_000):           "1:33: values stand too deep in each other",
		strings.Repeat("a: 1\n", 100_000):     "1:1: holds more values than a configuration can need",
		strings.Repeat("- ", 40) + "x":        "1:67: values stand too deep in each other",
		"--- |\n  text\n":                     "1:5: must be a mapping (key: value), and is text",
	} {
		if got := strings.TrimSpace(mistakesOf(t, []byte(text))); got != want {
			t.Errorf("%.20q: got %s, want %s", text, got, want)
		}
	}
}

func TestByteOrderMarkAndBlockTextsAreRead(t *testing.T) {
	c, err := yamlfile.Parse([]byte("\ufeffintegrations:\n  askfred:\n    client_id: |-\n      abc\n    client_secret: >-\n      ${env:A}\n"))
	if err != nil {
		t.Fatal(err)
	}
	if got := c.Integrations[0].Current(); got.ClientID != "abc" || got.Secret.Name() != "A" {
		t.Errorf("got %+v", got)
	}
}

func FuzzParse(f *testing.F) {
	paths, err := filepath.Glob("testdata/mistakes/*.txtar")
	if err != nil {
		f.Fatal(err)
	}
	for _, path := range paths {
		archive, err := txtar.ParseFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(archive.Files[0].Data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := yamlfile.Parse(data)
		var mistakes config.Mistakes
		if (err == nil) == (c == nil) || err != nil && (!errors.As(err, &mistakes) || len(mistakes) == 0) {
			t.Fatalf("got %v, %v", c, err)
		}
		for _, m := range mistakes {
			if m.Line < 1 || m.Column < 1 || m.Text == "" {
				t.Errorf("no place or no text: %+v", m)
			}
		}
	})
}
