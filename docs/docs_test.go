// Package docs_test holds the documentation to the code: what it shows must be accepted,
// and what the code has must be told.
package docs_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/evergrant/evergrant/internal/config/yamlfile"
	"github.com/evergrant/evergrant/internal/outbox"
	"github.com/evergrant/evergrant/internal/provider"
	"github.com/evergrant/evergrant/internal/provider/page"
	"github.com/evergrant/evergrant/internal/wire"
)

// pages are all Markdown files for readers, by their path from here.
func pages(t *testing.T) map[string]string {
	t.Helper()
	found := map[string]string{}
	for _, pattern := range []string{"../*.md", "*.md", "*/*.md"} {
		names, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			found[name] = read(t, name)
		}
	}
	if len(found) < 10 {
		t.Fatalf("found %d pages only", len(found))
	}
	return found
}

func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// Each example of an event is one: nothing in it is unknown, and its type exists.
func TestEventsAreGood(t *testing.T) {
	block := regexp.MustCompile("(?s)<!-- event -->\n```json\n(.*?)```")
	text := read(t, "events.md")
	all := block.FindAllStringSubmatch(text, -1)
	if marks := strings.Count(text, "<!-- event -->"); marks != len(all) || marks < 2 {
		t.Errorf("%d marks, %d examples", marks, len(all))
	}
	for _, m := range all {
		d := json.NewDecoder(strings.NewReader(m[1]))
		d.DisallowUnknownFields()
		var e wire.Event
		if err := d.Decode(&e); err != nil || !slices.Contains(outbox.Types(), outbox.Type(e.Type)) {
			t.Errorf("%v\nin\n%s", err, m[1])
		}
		again, err := json.MarshalIndent(e, "", "  ")
		if err != nil || string(again) != strings.TrimSpace(m[1]) {
			t.Errorf("the example lacks something or has another order; it is\n%s", again)
		}
	}
	for _, typ := range outbox.Types() {
		if !strings.Contains(text, "| `"+string(typ)+"` |") {
			t.Errorf("events.md says nothing of %s", typ)
		}
	}
}

func TestConfigurationsAreGood(t *testing.T) {
	block := regexp.MustCompile("(?s)<!-- config -->\n```yaml\n(.*?)```")
	count := 0
	for name, text := range pages(t) {
		for _, m := range block.FindAllStringSubmatch(text, -1) {
			count++
			if _, err := yamlfile.Parse([]byte(m[1])); err != nil {
				t.Errorf("%s: %v\nin\n%s", name, err, m[1])
			}
		}
		if marks, read := strings.Count(text, "<!-- config -->"), len(block.FindAllString(text, -1)); marks != read {
			t.Errorf("%s: %d configurations are marked and %d are yaml blocks", name, marks, read)
		}
	}
	if count == 0 {
		t.Error("no configuration was found")
	}
}

// wireTypes are the forms that an example in http.md may be marked as.
func wireTypes() map[string]any {
	types := map[string]any{}
	for _, v := range []any{
		&wire.Health{}, &wire.SessionRequest{}, &wire.NewSession{}, &wire.Session{}, &wire.ConfirmRequest{}, &wire.Connection{},
		&wire.ImportRequest{}, &wire.TagsRequest{}, &wire.Receipt{}, &wire.Token{}, &wire.RefreshRequest{}, &wire.Problem{},
		&wire.StandInRequest{}, &wire.NewStandIn{}, &wire.StandIn{}, &wire.OAuthToken{},
	} {
		types[reflect.TypeOf(v).Elem().Name()] = v
	}
	return types
}

func TestExamplesAreOfTheirType(t *testing.T) {
	block := regexp.MustCompile("(?s)<!-- wire (\\w+) -->\n```json\n(.*?)```")
	text := read(t, "http.md")
	found := block.FindAllStringSubmatch(text, -1)
	if len(found) == 0 || len(found) != strings.Count(text, "<!-- wire ") {
		t.Fatalf("%d examples are marked and %d are json blocks", strings.Count(text, "<!-- wire "), len(found))
	}
	for _, m := range found {
		into, known := wireTypes()[m[1]]
		if !known {
			t.Errorf("there is no type %s", m[1])
			continue
		}
		d := json.NewDecoder(strings.NewReader(m[2]))
		d.DisallowUnknownFields()
		if err := d.Decode(into); err != nil {
			t.Errorf("%s: %v\nin\n%s", m[1], err, m[2])
		}
		if answer := !strings.HasSuffix(m[1], "Request") && m[1] != "Problem"; answer {
			lacksNothing(t, m[1], into, m[2])
		}
	}
}

// lacksNothing checks that the example of an answer shows every member: those that may
// be unknown are null, never absent.
func lacksNothing(t *testing.T, name string, v any, example string) {
	t.Helper()
	var shown map[string]json.RawMessage
	if err := json.Unmarshal([]byte(example), &shown); err != nil {
		t.Fatal(err)
	}
	for member := range jsonMembers(reflect.TypeOf(v).Elem()) {
		if _, ok := shown[member]; !ok && member != "took_tokens" { // of one answer to one kind of import
			t.Errorf("the example of %s lacks %s", name, member)
		}
	}
}

func jsonMembers(t reflect.Type) map[string]reflect.Type {
	members := map[string]reflect.Type{}
	for f := range t.Fields() {
		if name, _, _ := strings.Cut(f.Tag.Get("json"), ","); name != "" {
			members[name] = f.Type
		}
	}
	return members
}

func TestJSONBlocksAreJSON(t *testing.T) {
	block := regexp.MustCompile("(?s)```json\n(.*?)```")
	for name, text := range pages(t) {
		for _, m := range block.FindAllStringSubmatch(text, -1) {
			if !json.Valid([]byte(m[1])) {
				t.Errorf("%s: this is not JSON:\n%s", name, m[1])
			}
		}
	}
}

// TestLinksLead checks that each link into the repository leads somewhere, to a heading
// too.
func TestLinksLead(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^)\s]+)\)`)
	for name, text := range pages(t) {
		for _, m := range link.FindAllStringSubmatch(withoutCode(text), -1) {
			target, heading, _ := strings.Cut(m[1], "#")
			if strings.Contains(target, "://") || strings.HasPrefix(target, "mailto:") {
				continue
			}
			at := name
			if target != "" {
				at = filepath.Join(filepath.Dir(name), filepath.FromSlash(target))
			}
			info, err := os.Stat(at)
			switch {
			case err != nil:
				t.Errorf("%s: %s leads nowhere", name, m[1])
			case heading != "" && !info.IsDir() && !anchors(read(t, at))[heading]:
				t.Errorf("%s: %s has no such heading", name, m[1])
			}
		}
	}
}

func withoutCode(text string) string {
	return regexp.MustCompile("(?s)```.*?```|`[^`\n]*`").ReplaceAllString(text, "")
}

// anchors are the names that headings have as the target of a link, in GitHub's way.
func anchors(text string) map[string]bool {
	found := map[string]bool{}
	drop := regexp.MustCompile(`[^\p{L}\p{N} _-]`)
	for _, m := range regexp.MustCompile(`(?m)^#+ (.*)$`).FindAllStringSubmatch(text, -1) {
		name := drop.ReplaceAllString(strings.ToLower(m[1]), "")
		found[strings.ReplaceAll(name, " ", "-")] = true
	}
	return found
}

func TestEveryRouteIsTold(t *testing.T) {
	var api struct {
		Paths      map[string]map[string]json.RawMessage `json:"paths"`
		Components struct {
			Schemas struct {
				Problem struct {
					Properties struct {
						Code struct {
							Enum []string `json:"enum"`
						} `json:"code"`
					} `json:"properties"`
				} `json:"Problem"`
			} `json:"schemas"`
		} `json:"components"`
	}
	if err := json.Unmarshal([]byte(read(t, "../internal/httpapi/openapi.json")), &api); err != nil {
		t.Fatal(err)
	}
	text := read(t, "http.md")
	for path, methods := range api.Paths {
		for method := range methods {
			if operation := strings.ToUpper(method) + " " + path; method != "parameters" && !strings.Contains(text, operation) {
				t.Errorf("http.md says nothing of %s", operation)
			}
		}
	}
	codes := api.Components.Schemas.Problem.Properties.Code.Enum
	if len(api.Paths) == 0 || len(codes) == 0 {
		t.Fatal("the OpenAPI document has another form than expected")
	}
	for _, code := range codes {
		if !strings.Contains(text, "| `"+code+"` |") {
			t.Errorf("http.md says nothing of the problem %s", code)
		}
	}
}

func TestEveryProviderFieldIsTold(t *testing.T) {
	told(t, "configuration.md", reflect.TypeFor[provider.Entry]())
}

// told checks that a page names each JSON field of a struct, and those within it.
func told(t *testing.T, page string, of reflect.Type) {
	t.Helper()
	text := read(t, page)
	for name, field := range jsonMembers(of) {
		if !strings.Contains(text, "`"+name+"`") {
			t.Errorf("%s says nothing of %s", page, name)
		}
		for field.Kind() == reflect.Slice || field.Kind() == reflect.Map {
			field = field.Elem()
		}
		if field.Kind() == reflect.Struct && field != of { // an entry's environments are entries
			told(t, page, field)
		}
	}
}

// A page that was written by hand stays as it is; the others say what the catalogue says.
func TestEveryProviderHasItsPage(t *testing.T) {
	byHand := 0
	var all []provider.Entry
	for _, id := range provider.IDs() {
		e, err := provider.Lookup(id)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, e)
		text, err := os.ReadFile(filepath.Join("providers", id+".md"))
		switch {
		case err != nil:
			t.Errorf("%s has no page: run make providers-docs", id)
		case !strings.HasPrefix(string(text), page.Generated):
			byHand++
		case string(text) != page.Markdown(e):
			t.Errorf("the page of %s is not what the catalogue says now: run make providers-docs", id)
		}
	}
	if byHand != 5 {
		t.Errorf("%d pages are written by hand", byHand)
	}
	if want := page.TableBegin + "\n" + page.Table(all) + page.TableEnd; !strings.Contains(read(t, "providers/README.md"), want) {
		t.Error("the table of providers is not what the catalogue says now: run make providers-docs")
	}
}

func TestTheTemplateIsTold(t *testing.T) {
	var template struct {
		Parameters map[string]any `yaml:"Parameters"`
		Outputs    map[string]any `yaml:"Outputs"`
		Resources  map[string]struct {
			Type string `yaml:"Type"`
		} `yaml:"Resources"`
	}
	if err := yaml.Unmarshal([]byte(read(t, "../template.yaml")), &template); err != nil {
		t.Fatal(err)
	}
	text := read(t, "operations.md")
	for _, part := range []map[string]any{template.Parameters, template.Outputs} {
		if len(part) == 0 {
			t.Fatal("the template has another form than expected")
		}
		for name := range part {
			if !strings.Contains(text, "`"+name+"`") {
				t.Errorf("operations.md says nothing of %s", name)
			}
		}
	}
	for name, r := range template.Resources {
		if r.Type == "AWS::CloudWatch::Alarm" && !strings.Contains(text, "`"+name+"`") {
			t.Errorf("operations.md says nothing of %s", name)
		}
	}
}

// TestEveryDependencyIsTold reads go.mod: a module that is required directly has to be
// told in full, or as a service of the SDK by its end.
func TestEveryDependencyIsTold(t *testing.T) {
	text := []byte(read(t, "dependencies.md"))
	require := regexp.MustCompile(`(?m)^\s*(?:require )?([a-z0-9.-]+\.[a-z]+/\S+) v\S+$`)
	for _, m := range require.FindAllStringSubmatch(read(t, "../go.mod"), -1) {
		module := regexp.MustCompile(`/v[0-9]+$`).ReplaceAllString(m[1], "")
		if _, service, ok := strings.Cut(module, "aws-sdk-go-v2/"); ok {
			module = "…/" + service
		}
		if !bytes.Contains(text, []byte("`"+module+"`")) {
			t.Errorf("dependencies.md says nothing of %s", module)
		}
	}
}

// The template is an entry that the catalogue would take.
func TestTheTemplateOfAnEntryIsSound(t *testing.T) {
	m := regexp.MustCompile("(?s)<!-- entry -->\n```json\n(.*?)```").FindStringSubmatch(read(t, "contributing-a-provider.md"))
	if m == nil {
		t.Fatal("there is no template")
	}
	r := provider.Check([]byte(m[1]), time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC))
	for _, found := range slices.Concat(r.Essential, r.Mistakes, r.Contradictions) {
		t.Error(found)
	}
	text := read(t, "contributing-a-provider.md")
	for _, field := range provider.SafetyFacts() {
		if !strings.Contains(text, "`"+field+"`") {
			t.Errorf("it does not tell of %s", field)
		}
	}
}
