package config

import (
	"fmt"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/evergrant/evergrant/internal/provider"
)

// Catalog is the built-in catalogue of providers, or for the zero Catalog none: then
// every provider must stand inline and whole. It is provider.Lookup and provider.IDs;
// they are passed in so that only who needs the catalogue links it.
type Catalog struct {
	Lookup func(id string) (provider.Entry, error)
	IDs    func() []string
}

// DefaultDeployment is Config.Deployment where the file names none.
const DefaultDeployment = "evergrant"

// defaultClient is the name of the client in the plain form.
const defaultClient = "default"

// Read checks a configuration. The error is Mistakes, all of them in the order of
// the file; the Config is nil then.
//
// files reads a file that the configuration names, such as a logo. Nil: to name one is a
// mistake; the compiled form names none.
func Read(root *Node, catalog Catalog, files func(name string) ([]byte, error)) (*Config, error) {
	r := reader{
		catalog: catalog,
		files:   files,
		config:  Config{Deployment: DefaultDeployment},
		name:    regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,62}$`),
		types:   map[reflect.Type]map[string]reflect.Type{},
	}
	r.root(Field{At: root.At, Value: root})
	if len(r.mistakes) > 0 {
		return nil, r.mistakes.sorted()
	}
	return &r.config, nil
}

// reader turns Nodes into a Config and gathers mistakes on the way.
type reader struct {
	catalog  Catalog
	files    func(name string) ([]byte, error)
	name     *regexp.Regexp                           // of integrations, clients and keys
	types    map[reflect.Type]map[string]reflect.Type // what jsonFields has found
	config   Config
	mistakes Mistakes
}

// fail records a mistake at f.
func (r *reader) fail(f Field, format string, args ...any) {
	r.mistakes = append(r.mistakes, Mistake{Position: f.At, Path: f.path, Text: fmt.Sprintf(format, args...)})
}

// in returns f for a mistake about its missing field key: the place is f's own.
func in(f Field, key string) Field {
	f.path = join(f.path, key)
	return f
}

// child returns the first field of f with that key, whatever is wrong with it.
func child(f Field, key string) (Field, bool) {
	n := slices.IndexFunc(f.Value.Fields, func(c Field) bool { return c.Key == key })
	if n < 0 {
		return Field{}, false
	}
	return f.Value.Fields[n], true
}

// needs records a mistake for each of the keys that the object f lacks.
func (r *reader) needs(f Field, keys ...string) {
	for _, key := range keys {
		if _, ok := child(f, key); !ok && f.Value.Kind == KindObject {
			r.fail(in(f, key), "is missing")
		}
	}
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

// keys are the fields of an object and who reads each.
type keys map[string]func(Field)

// object reads f's fields by known and returns those that are there.
func (r *reader) object(f Field, known keys) map[string]Field {
	got := map[string]Field{}
	for _, child := range r.fields(f) {
		read, ok := known[child.Key]
		if !ok {
			r.fail(child, "is not a known key%s", suggestion(child.Key, slices.Collect(maps.Keys(known))))
			continue
		}
		got[child.Key] = child
		read(child)
	}
	return got
}

// fields returns the fields of the object f, each once and not empty.
func (r *reader) fields(f Field) []Field {
	if !r.is(f, KindObject, "a mapping (key: value)") {
		return nil
	}
	first := map[string]Position{}
	var fields []Field
	for _, child := range f.Value.Fields {
		child.path = join(f.path, child.Key)
		if at, repeated := first[child.Key]; repeated {
			r.fail(child, "is given twice; the first one is in line %d", at.Line)
			continue
		}
		first[child.Key] = child.At
		if child.Value.Kind == KindNull {
			r.fail(child, "is empty; give a value or leave the key out")
			continue
		}
		fields = append(fields, child)
	}
	return fields
}

// items returns the items of the list f.
func (r *reader) items(f Field) []Field {
	if !r.is(f, KindList, "a list") {
		return nil
	}
	items := make([]Field, len(f.Value.Items))
	for n, item := range f.Value.Items {
		items[n] = Field{At: item.At, Value: item, path: fmt.Sprintf("%s[%d]", f.path, n)}
	}
	return items
}

// is reports whether f has the kind, and records a mistake where it has not.
func (r *reader) is(f Field, kind Kind, words string) bool {
	if f.Value.Kind == kind {
		return true
	}
	at := f
	at.At = f.Value.At
	hint := ""
	if kind == KindText && (f.Value.Kind == KindNumber || f.Value.Kind == KindBool) {
		hint = "; put it in quotes"
	}
	r.fail(at, "must be %s, and is %s%s", words, f.Value.Kind, hint)
	return false
}

// text reads a text in which ${…} means nothing and so is refused: whoever writes it
// expects it to be expanded. ok: there is no mistake yet.
func (r *reader) text(f Field) (s string, ok bool) {
	if !r.is(f, KindText, "text") {
		return "", false
	}
	if strings.Contains(f.Value.Text, "${") {
		r.fail(f, "holds ${…}, which is expanded in secrets only; write the value itself")
		return "", false
	}
	return f.Value.Text, true
}

// texts reads a list of texts without repetition.
func (r *reader) texts(f Field, check func(Field, string)) []string {
	var list []string
	for _, item := range r.items(f) {
		s, ok := r.text(item)
		switch {
		case !ok:
		case slices.Contains(list, s):
			r.fail(item, "stands in the list twice")
		default:
			check(item, s)
			list = append(list, s)
		}
	}
	return list
}

// oneOf reads one of the words.
func (r *reader) oneOf(f Field, words ...string) string {
	s, ok := r.text(f)
	if ok && !slices.Contains(words, s) {
		r.fail(f, "must be one of %s", strings.Join(words, ", "))
	}
	return s
}

// nameText reads a name.
func (r *reader) nameText(f Field) string {
	s, ok := r.text(f)
	if ok {
		r.named(f, s)
	}
	return s
}

// named checks a name that stands in URLs and keys.
func (r *reader) named(f Field, name string) {
	if !r.name.MatchString(name) {
		r.fail(f, "must be a name of lower-case letters, digits and hyphens, 63 at most, that begins with a letter or digit")
	}
}

func (r *reader) root(f Field) {
	c := &r.config
	got := r.object(f, keys{
		"checked":      func(Field) {}, // of the compiled form, see Compile
		"public_url":   func(f Field) { c.PublicURL = r.publicURL(f) },
		"deployment":   func(f Field) { c.Deployment = r.nameText(f) },
		"integrations": r.integrations,
		// Read below: they name integrations, whatever the order of the file.
		"api_keys":    func(Field) {},
		"iam_callers": func(Field) {},
		"webhooks":    r.webhooks,
		"pages":       r.pages,
	})
	r.needs(f, "integrations")
	if keys, ok := got["api_keys"]; ok {
		r.apiKeys(keys)
	}
	if callers, ok := got["iam_callers"]; ok {
		r.iamCallers(callers)
	}
}

// publicURL reads an origin. A path would not work: the cookie's __Host- prefix
// demands the path /.
func (r *reader) publicURL(f Field) string {
	s, ok := r.text(f)
	s = strings.TrimSuffix(s, "/")
	address, err := parseReturnTo(s)
	switch {
	case !ok:
	case err != nil:
		r.fail(f, "%v", err)
	case s != address.origin:
		r.fail(f, "must be an origin without a path or query, such as https://auth.example.com")
	}
	return s
}

func (r *reader) integrations(f Field) {
	all := r.fields(f)
	if len(all) == 0 && f.Value.Kind == KindObject && len(f.Value.Fields) == 0 {
		r.fail(f, "is empty; name at least one integration")
	}
	for _, child := range all {
		r.named(child, child.Key)
		r.config.Integrations = append(r.config.Integrations, r.integration(child))
	}
	slices.SortFunc(r.config.Integrations, func(a, b Integration) int { return strings.Compare(a.Name, b.Name) })
}

func (r *reader) integration(f Field) Integration {
	i := Integration{Name: f.Key, Refresh: RefreshAhead, Binding: BindingConfirm, Connect: ConnectSession, MinInterval: DefaultMinInterval}
	plain := Client{Name: defaultClient, State: ClientCurrent}
	var places []Field // of the clients
	got := r.object(f, keys{
		"provider":      func(Field) {}, // read below, where it may be absent
		"variables":     func(Field) {}, // need the provider
		"client_id":     func(f Field) { plain.ClientID = r.clientID(f) },
		"client_secret": func(f Field) { plain.Secret = r.secretRef(f) },
		"key_id":        func(f Field) { plain.KeyID = r.clientID(f) },
		"environment":   func(Field) {}, // needs the provider
		"clients":       func(f Field) { i.Clients, places = r.clients(f) },
		"scopes":        func(f Field) { i.Scopes = r.texts(f, r.scope) },
		"return_to":     func(f Field) { i.ReturnTo = r.texts(f, r.returnTo) },
		"refresh": func(f Field) {
			i.Refresh = RefreshMode(r.oneOf(f, string(RefreshAhead), string(RefreshOnDemand), string(RefreshKeepalive)))
		},
		"binding":        func(f Field) { i.Binding = Binding(r.oneOf(f, string(BindingConfirm), string(BindingCookie))) },
		"connect":        func(f Field) { i.Connect = Connect(r.oneOf(f, string(ConnectSession), string(ConnectPublic))) },
		"max_concurrent": func(f Field) { i.MaxConcurrent = r.count(f, 1000) },
		"min_interval_s": func(f Field) { i.MinInterval = r.number(f, 0, 3600) },
		"max_per_minute": func(f Field) { i.MaxPerMinute = r.count(f, 1_000_000) },
		"allow_private": func(f Field) {
			i.AllowPrivate = r.is(f, KindBool, "true or false") && strings.EqualFold(f.Value.Text, "true")
		},
	})
	if f.Value.Kind != KindObject {
		return i
	}
	r.publicConnect(i, got)
	entry, ok := r.provider(f, got)
	if env, given := got["environment"]; given && ok {
		entry, ok = r.environment(env, entry)
	}
	if ok {
		r.addresses(f, &i, entry)
	}
	i.Entry, i.Provider = entry, entry.ID
	if _, listed := got["clients"]; listed {
		r.onlyList(got)
	} else {
		i.Clients, places = r.plainClient(f, plain, entry), []Field{f}
	}
	if v, given := got["variables"]; given && ok {
		i.Variables = r.variables(v, entry)
	}
	for n := range i.Clients {
		if ok {
			r.suits(places[n], &i.Clients[n], entry)
		}
	}
	return i
}

// environment is the provider's entry as it is in the environment that f names.
func (r *reader) environment(f Field, entry provider.Entry) (provider.Entry, bool) {
	name, ok := r.text(f)
	if !ok {
		return entry, false
	}
	there, err := entry.In(name)
	if err != nil {
		r.fail(f, "%v: provider %s", err, entry.ID)
		return entry, false
	}
	return there, true
}

// addresses refuses endpoints that could never be dialled, so that this shows here and
// not at the first revocation, months later. Names are judged once they are looked up.
func (r *reader) addresses(f Field, i *Integration, entry provider.Entry) {
	for _, host := range hostsOf(entry) {
		if err := provider.CheckHost(host, i.AllowPrivate); err != nil {
			hint := ""
			if provider.CheckHost(host, true) == nil {
				hint = "; where the provider really is in your own network, set allow_private: true"
			}
			r.fail(in(f, "provider"), "an endpoint's host %s %v%s", host, err, hint)
		}
	}
}

// count reads a whole number from 1 to most.
func (r *reader) count(f Field, most int) int { return r.number(f, 1, most) }

// number reads a whole number from least to most.
func (r *reader) number(f Field, least, most int) int {
	if !r.is(f, KindNumber, "a number") {
		return 0
	}
	n, err := strconv.Atoi(f.Value.Text)
	if err != nil || n < least || n > most {
		r.fail(f, "must be a whole number from %d to %d", least, most)
		return 0
	}
	return n
}

// publicConnect checks what connect: public demands. Anybody may open such a link, so
// the consent counts only once the application's backend has said whose it is.
func (r *reader) publicConnect(i Integration, got map[string]Field) {
	if i.Connect != ConnectPublic {
		return
	}
	if i.Binding != BindingConfirm {
		r.fail(got["connect"], "public needs binding: confirm, since anybody may open the link")
	}
	if len(i.ReturnTo) == 0 {
		r.fail(got["connect"], "public needs return_to, where the confirm token is sent")
	}
}

func (r *reader) scope(f Field, s string) {
	// The characters of RFC 6749 section 3.3.
	for n := range len(s) {
		if c := s[n]; c <= 0x20 || c >= 0x7f || c == '"' || c == '\\' {
			r.fail(f, "must be one scope without blanks, quotes and backslashes; write several as several items")
			return
		}
	}
	if s == "" {
		r.fail(f, "is empty; write scopes: [] to ask for none")
	}
}

func (r *reader) returnTo(f Field, pattern string) {
	if _, err := parseReturnToPattern(pattern); err != nil {
		r.fail(f, "%v", err)
	}
}

// variables reads the values of {variable} in the provider's URLs. The provider's
// client looks at the built URL once more before it sends anything there.
func (r *reader) variables(f Field, entry provider.Entry) map[string]string {
	values := map[string]string{}
	for _, child := range r.fields(f) {
		pattern, known := entry.Variables[child.Key]
		if !known {
			r.fail(child, "is not a variable of this provider%s", suggestion(child.Key, slices.Collect(maps.Keys(entry.Variables))))
			continue
		}
		value, ok := r.text(child)
		if whole, err := regexp.Compile(`^(?:` + pattern + `)$`); ok && (err != nil || !whole.MatchString(value)) {
			r.fail(child, "does not match the provider's pattern %s", pattern)
		}
		values[child.Key] = value
	}
	return values
}
