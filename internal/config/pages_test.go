package config_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/evergrant/evergrant/internal/config"
	"github.com/evergrant/evergrant/internal/config/yamlfile"
)

// pageFiles writes files into a folder and reads the configuration whose pages are these.
func pageFiles(t *testing.T, pages string, files map[string][]byte) (*config.Config, error) {
	t.Helper()
	dir := t.TempDir()
	for name, data := range files {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(dir, "evergrant.yaml")
	text := "integrations: {whenfresh: {}}\npages: {" + pages + "}\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := yamlfile.Load(path)
	if err != nil {
		err = mistakesWithout(err.Error(), dir)
	}
	return c, err
}

type plainError string

func (e plainError) Error() string { return string(e) }

func mistakesWithout(text, dir string) error {
	return plainError(strings.ReplaceAll(text, dir+string(filepath.Separator), ""))
}

func TestFilesOfPagesBecomePartOfTheConfiguration(t *testing.T) {
	png := append([]byte("\x89PNG\r\n\x1a\n"), make([]byte, 20)...)
	c, err := pageFiles(t, "logo: logo.png, messages: de.json", map[string][]byte{
		"logo.png": png, "de.json": []byte(`{"lang":"de","app":"die Anwendung"}`),
	})
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(c.Pages.Logo, "data:image/png;base64,iVBORw0KGgoA") || c.Pages.Messages["app"] != "die Anwendung" {
		t.Errorf("got %+v", c.Pages)
	}
	if w := strings.Join(c.Warnings(), "\n"); !strings.Contains(w, "messages are in English still, such as already_connected.text, already_connected.title, broken_link.text.") {
		t.Errorf("warns of %q", w)
	}
}

func TestFilesOfPagesThatAreRefused(t *testing.T) {
	for _, c := range []struct {
		pages, name string
		data        []byte
		want        string
	}{
		{"logo: logo.png", "x", nil, "evergrant.yaml:2:9: pages.logo: cannot be read: no such file or directory; a path is relative to this file's folder"},
		{"logo: .", "x", nil, "evergrant.yaml:2:9: pages.logo: cannot be read: is not a file; a path is relative to this file's folder"},
		{"logo: logo.png", "logo.png", []byte("<html><script>alert(1)</script>"), "evergrant.yaml:2:9: pages.logo: is neither SVG, PNG, JPEG, GIF nor WebP"},
		{"logo: logo.svg", "logo.svg", bytes.Repeat([]byte("<svg>"), 7000), "evergrant.yaml:2:9: pages.logo: is larger than 32 KiB"},
		{`logo: "data:text/html;base64,AAAA"`, "x", nil, "evergrant.yaml:2:9: pages.logo: is not an image as config build writes it; name a file"},
		{"messages: m.json", "m.json", []byte(`{"app": "a",`), "m.json:1:13: is not JSON: it ends too early"},
		{"messages: m.json", "m.json", []byte(`["app"]`), "m.json:1:1: must be a mapping (key: value), and is a list"},
		{"messages: m.json", "m.json", []byte("{\n \"ap\": \"x\",\n \"connected.title\": \"{x}\"\n}"), "m.json:2:2: ap: is not a message; did you mean app?\nm.json:3:2: connected.title: may hold {app}, {provider}, and not {x}"},
	} {
		_, err := pageFiles(t, c.pages, map[string][]byte{c.name: c.data})
		if err == nil || err.Error() != c.want {
			t.Errorf("%s: got\n%v, want\n%s", c.pages, err, c.want)
		}
	}
}
