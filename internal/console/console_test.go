package console_test

import (
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/evergrant/evergrant/internal/console"
)

func get(t *testing.T, method, target string) *httptest.ResponseRecorder {
	t.Helper()
	h := console.Before(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) }))
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), method, target, nil))
	return w
}

func TestOnlyItsOwnPathsAreTheConsoles(t *testing.T) {
	for target, want := range map[string]int{
		"/console": 200, "/console?x=1": 200, "/console/": 308, "/console/main.js": 200, "/console/style.css": 200, "/console/icon.svg": 200,
		"/console/index.html": 404, "/console/console.go": 404, "/console/../console.go": 404, "/console/%2e%2e/console.go": 404, "/console/static/main.js": 404,
		"/": 418, "/consoles": 418, "/v1/stats": 418, "/Console": 418,
	} {
		if got := get(t, http.MethodGet, target); got.Code != want {
			t.Errorf("%s: %d, want %d", target, got.Code, want)
		}
	}
	if got := get(t, http.MethodPost, "/console"); got.Code != http.StatusMethodNotAllowed || got.Header().Get("Allow") != "GET, HEAD" {
		t.Errorf("POST: %d, Allow %q", got.Code, got.Header().Get("Allow"))
	}
}

// The files by which the console is made may be loaded from its own origin alone, and none
// of them keeps anything or leaves for elsewhere.
func TestNothingIsKeptAndNothingLeaves(t *testing.T) {
	page := get(t, http.MethodGet, "/console")
	csp := strings.Split(page.Header().Get("Content-Security-Policy"), "; ")
	for _, want := range []string{
		"default-src 'none'", "script-src 'self'", "style-src 'self'", "img-src 'self'", "connect-src 'self'", "base-uri 'none'", "form-action 'none'",
		"frame-ancestors 'none'", "require-trusted-types-for 'script'",
	} {
		if !slices.Contains(csp, want) {
			t.Errorf("the policy lacks %s", want)
		}
	}
	for name, want := range map[string]string{
		"Cache-Control": "no-store", "Referrer-Policy": "no-referrer", "X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY",
		"Cross-Origin-Opener-Policy": "same-origin", "Set-Cookie": "", "Access-Control-Allow-Origin": "",
	} {
		if got := page.Header().Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	forbidden := regexp.MustCompile(`localStorage|sessionStorage|indexedDB|document\.cookie|innerHTML|outerHTML|insertAdjacentHTML|\beval\(|new Function|https?://[^w]|style="|\bon[a-z]+="`)
	err := fs.WalkDir(os.DirFS("static"), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		served := get(t, http.MethodGet, "/console/"+name)
		data, err := os.ReadFile("static/" + name)
		if name != "index.html" && (served.Code != http.StatusOK || served.Header().Get("Content-Type") == "" || served.Body.String() != string(data)) {
			t.Errorf("%s is served as %d, %q", name, served.Code, served.Header().Get("Content-Type"))
		}
		if found := forbidden.FindString(string(data)); found != "" {
			t.Errorf("%s holds %s", name, found)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// Each file that one of them names is there.
func TestFilesNameFilesThatAreThere(t *testing.T) {
	names := regexp.MustCompile(`(?:from |src=|href=)"([^"#]+)"`)
	entries, err := os.ReadDir("static")
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, e := range entries {
		data, err := os.ReadFile("static/" + e.Name())
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range names.FindAllStringSubmatch(string(data), -1) {
			found++
			target := strings.Replace(m[1], "./", "/console/", 1)
			if got := get(t, http.MethodGet, target); got.Code != http.StatusOK && !strings.HasPrefix(target, "/v1/") {
				t.Errorf("%s names %s: %d", e.Name(), m[1], got.Code)
			}
		}
	}
	if found < 10 {
		t.Errorf("only %d names were found", found)
	}
}
