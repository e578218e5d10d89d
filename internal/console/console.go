// Package console is the operator's pages at /console: what is alive, what needs a person,
// and how late things are.
//
// It is files and nothing else. They hold no data, and the server gives them no right:
// the operator pastes an API key, which stays in the memory of that one page and goes
// along as the bearer of requests to the public API of the same origin. There is no
// cookie, so no other site can make a browser use the key, and no storage, so that it is
// gone with the page. What the console can do is what the key may do.
//
// The Content-Security-Policy lets a page load its own files and ask its own origin, and
// nothing else; no text can become markup or a script in it. The API has no CORS, so no
// page of another origin can stand in for this one.
package console

import (
	"embed"
	"io/fs"
	"net/http"
	"path"
	"strings"
)

//go:embed static
var static embed.FS

// policy is CSP level 3. Trusted types refuse innerHTML and its kin.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"

// root is the path of the first page; the files lie below it.
const root = "/console"

// Before returns a handler that answers for /console and all below, and leaves every
// other path to next.
func Before(next http.Handler) http.Handler {
	files := read()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != root && !strings.HasPrefix(r.URL.Path, root+"/") {
			next.ServeHTTP(w, r)
			return
		}
		serve(w, r, files)
	})
}

// file is one of the console's, as it is sent.
type file struct {
	kind string // media type
	data []byte
}

// read returns the files by the paths under which they are served.
func read() map[string]file {
	kinds := map[string]string{
		".html": "text/html; charset=utf-8", ".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml",
	}
	files := map[string]file{}
	names, err := fs.Glob(static, "static/*")
	for _, name := range names {
		var data []byte
		if data, err = static.ReadFile(name); err != nil {
			break
		}
		files[root+"/"+path.Base(name)] = file{kind: kinds[path.Ext(name)], data: data}
	}
	if err != nil {
		panic(err) // they are embedded: the build is wrong
	}
	files[root] = files[root+"/index.html"]
	delete(files, root+"/index.html")
	return files
}

func serve(w http.ResponseWriter, r *http.Request, files map[string]file) {
	h := w.Header()
	h.Set("Cache-Control", "no-store") // the files are few, and change with the server
	h.Set("Content-Security-Policy", policy)
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	f, known := files[r.URL.Path]
	switch {
	case r.URL.Path == root+"/":
		h.Set("Location", root)
		w.WriteHeader(http.StatusPermanentRedirect)
	case !known:
		http.Error(w, "There is no such file. The console is at /console.", http.StatusNotFound)
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		h.Set("Allow", "GET, HEAD")
		http.Error(w, "The console is only read.", http.StatusMethodNotAllowed)
	default:
		h.Set("Content-Type", f.kind)
		w.WriteHeader(http.StatusOK)
		_, _ = w.Write(f.data) // net/http leaves a HEAD without it
	}
}
