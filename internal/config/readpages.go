package config

import (
	"encoding/base64"
	"errors"
	"io/fs"
	"net/http"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/evergrant/evergrant/internal/wording"
)

// Bounds of pages: the application's name in characters, and the logo in bytes, since it
// stands in each page and each function reads it at its cold start.
const (
	maxPageName = 60
	maxLogo     = 32 << 10
)

// pages reads how our pages look. Files that it names become part of the configuration.
func (r *reader) pages(f Field) {
	p := &r.config.Pages
	r.object(f, keys{
		"name":     func(f Field) { p.Name = r.pageName(f) },
		"logo":     func(f Field) { p.Logo = r.logo(f) },
		"color":    func(f Field) { p.Color = r.color(f) },
		"home":     func(f Field) { p.Home = r.home(f) },
		"messages": func(f Field) { p.Messages = r.messages(f) },
	})
}

func (r *reader) pageName(f Field) string {
	s, ok := r.text(f)
	if ok && (strings.TrimSpace(s) == "" || utf8.RuneCountInString(s) > maxPageName || !graphic(s)) {
		r.fail(f, "must be a name of 1 to %d characters", maxPageName)
	}
	return s
}

// graphic reports whether all of s can be seen: nothing in it turns the direction of what
// follows, or hides.
func graphic(s string) bool {
	return !strings.ContainsFunc(s, func(c rune) bool {
		return !unicode.IsGraphic(c) || unicode.Is(unicode.Other_Default_Ignorable_Code_Point, c)
	})
}

func (r *reader) color(f Field) string {
	s, ok := r.text(f)
	if ok && !regexp.MustCompile(`^#[0-9A-Fa-f]{6}$`).MatchString(s) {
		r.fail(f, `must be a color such as "#1d7a4a"`)
		return ""
	}
	return strings.ToLower(s)
}

// home is put into a link, where no script must be.
func (r *reader) home(f Field) string {
	s, ok := r.text(f)
	if !ok {
		return ""
	}
	u, err := url.Parse(s)
	switch {
	case err != nil || u.Host == "" || u.User != nil || !graphic(s) || strings.Contains(s, " "):
		r.fail(f, "must be a URL, such as https://app.example.com/")
	case u.Scheme != "https" && !(u.Scheme == "http" && loopbackURL(s)):
		r.fail(f, "must be https, since it is not on loopback")
	}
	return s
}

// logo reads an image file, or in the compiled form the image itself.
func (r *reader) logo(f Field) string {
	s, ok := r.text(f)
	if !ok {
		return ""
	}
	if kind, data, found := strings.Cut(strings.TrimPrefix(s, "data:"), ";base64,"); strings.HasPrefix(s, "data:") {
		if _, err := base64.StdEncoding.DecodeString(data); !found || err != nil || !slices.Contains(imageKinds(), kind) || len(data) > 2*maxLogo {
			r.fail(f, "is not an image as config build writes it; name a file")
			return ""
		}
		return s
	}
	if strings.Contains(s, "://") {
		r.fail(f, "must be a file: pages load nothing from elsewhere, so the image becomes part of them")
		return ""
	}
	data, ok := r.file(f, s)
	if !ok {
		return ""
	}
	kind := http.DetectContentType(data)
	if strings.EqualFold(path.Ext(s), ".svg") && utf8.Valid(data) && strings.Contains(string(data), "<svg") {
		kind = "image/svg+xml"
	}
	switch {
	case len(data) > maxLogo:
		r.fail(f, "is larger than %d KiB", maxLogo>>10)
	case !slices.Contains(imageKinds(), kind):
		r.fail(f, "is neither SVG, PNG, JPEG, GIF nor WebP")
	default:
		return "data:" + kind + ";base64," + base64.StdEncoding.EncodeToString(data)
	}
	return ""
}

// imageKinds are the media types of images that every browser shows. An SVG image runs
// no script and loads nothing.
func imageKinds() []string {
	return []string{"image/svg+xml", "image/png", "image/jpeg", "image/gif", "image/webp"}
}

// file reads a file that the configuration names.
func (r *reader) file(f Field, name string) ([]byte, bool) {
	if r.files == nil {
		r.fail(f, "names a file, and only what stands in the text itself is read here")
		return nil, false
	}
	data, err := r.files(name)
	if err != nil {
		reason := err
		if p, ok := errors.AsType[*fs.PathError](err); ok {
			reason = p.Err
		}
		r.fail(f, "cannot be read: %v; a path is relative to this file's folder", reason)
		return nil, false
	}
	return data, true
}

// messages reads texts for our pages: the name of a JSON file of them, or the texts
// themselves.
func (r *reader) messages(f Field) map[string]string {
	if f.Value.Kind != KindText {
		return r.messageTexts(f)
	}
	name, ok := r.text(f)
	if !ok {
		return nil
	}
	data, ok := r.file(f, name)
	if !ok {
		return nil
	}
	root, err := parseTree(data)
	inner := reader{name: r.name, types: r.types}
	var texts map[string]string
	if err == nil {
		texts = inner.messageTexts(Field{At: root.At, Value: root})
	} else if !errors.As(err, &inner.mistakes) {
		r.fail(f, "%v", err)
	}
	for _, m := range inner.mistakes {
		m.File = name
		r.mistakes = append(r.mistakes, m)
	}
	return texts
}

func (r *reader) messageTexts(f Field) map[string]string {
	texts, known := map[string]string{}, wording.Keys()
	for _, child := range r.fields(f) {
		text, ok := r.text(child)
		if !slices.Contains(known, child.Key) {
			r.fail(child, "is not a message%s", suggestion(child.Key, known))
		} else if ok {
			if err := wording.Check(child.Key, text); err != nil {
				r.fail(child, "%v", err)
			}
			texts[child.Key] = text
		}
	}
	return texts
}
