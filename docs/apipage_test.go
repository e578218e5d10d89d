package docs_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
)

var update = flag.Bool("update", false, "write docs/api.md anew")

// TestTheAPIPageIsTheDocument holds api.md to what openapi.json makes of it. With -update it
// writes the page.
func TestTheAPIPageIsTheDocument(t *testing.T) {
	doc, err := openapi3.NewLoader().LoadFromFile("../internal/httpapi/openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	page := apiPage(doc)
	if *update {
		if err := os.WriteFile("api.md", []byte(page), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if read(t, "api.md") != page {
		t.Error("api.md is not what openapi.json says; go test ./docs -run TestTheAPIPage -update writes it")
	}
	for _, item := range doc.Paths.Map() {
		for _, op := range item.Operations() {
			if !strings.Contains(page, op.Summary) {
				t.Errorf("the page lacks %s", op.OperationID)
			}
		}
	}
}

// apiPage is the document as a page for people.
func apiPage(doc *openapi3.T) string {
	var b strings.Builder
	b.WriteString("<!-- Written from internal/httpapi/openapi.json by go test ./docs -run TestTheAPIPage -update. -->\n\n# API reference\n\n")
	fmt.Fprintf(&b, "%s\n\nThis is what `GET /v1/openapi.json` says; [http.md](http.md) explains it.\n", doc.Info.Description)
	for _, tag := range doc.Tags {
		fmt.Fprintf(&b, "\n## %s\n", tag.Name)
		if tag.Description != "" {
			fmt.Fprintf(&b, "\n%s\n", tag.Description)
		}
		for _, path := range slices.Sorted(maps.Keys(doc.Paths.Map())) {
			item := doc.Paths.Value(path)
			for _, method := range []string{"GET", "POST", "PATCH", "DELETE"} {
				if op := item.GetOperation(method); op != nil && slices.Contains(op.Tags, tag.Name) {
					operation(&b, method, path, slices.Concat(item.Parameters, op.Parameters), op)
				}
			}
		}
	}
	b.WriteString("\n## Schemas\n")
	for _, name := range slices.Sorted(maps.Keys(doc.Components.Schemas)) {
		fmt.Fprintf(&b, "\n### %s\n", name)
		members(&b, doc.Components.Schemas[name].Value)
	}
	return b.String()
}

func operation(b *strings.Builder, method, path string, parameters openapi3.Parameters, op *openapi3.Operation) {
	scope, err := json.Marshal(op.Extensions["x-scope"])
	if err != nil {
		scope = []byte("?")
	}
	fmt.Fprintf(b, "\n### `%s %s`\n\n%s. Scope: %s.", method, path, strings.TrimSuffix(op.Summary, "."), strings.Trim(string(scope), `"`))
	if op.Description != "" {
		b.WriteString(" " + op.Description)
	}
	b.WriteString("\n")
	if len(parameters) > 0 {
		b.WriteString("\n| parameter | in | | |\n|---|---|---|---|\n")
	}
	for _, p := range parameters {
		required := ""
		if p.Value.Required {
			required = "required"
		}
		fmt.Fprintf(b, "| `%s` | %s | %s | %s |\n", p.Value.Name, p.Value.In, sentence(kind(p.Value.Schema), required), cell(p.Value.Description))
	}
	if op.RequestBody != nil {
		for _, media := range slices.Sorted(maps.Keys(op.RequestBody.Value.Content)) {
			fmt.Fprintf(b, "\nBody: %s, `%s`.\n", kind(op.RequestBody.Value.Content[media].Schema), media)
		}
	}
	b.WriteString("\n| answer | | |\n|---|---|---|\n")
	for _, status := range slices.Sorted(maps.Keys(op.Responses.Map())) {
		r := op.Responses.Value(status).Value
		var bodies []string
		for _, media := range slices.Sorted(maps.Keys(r.Content)) {
			bodies = append(bodies, kind(r.Content[media].Schema))
		}
		fmt.Fprintf(b, "| %s | %s | %s |\n", status, cell(*r.Description), strings.Join(bodies, ", "))
	}
}

// members are the members of an object, as a table.
func members(b *strings.Builder, s *openapi3.Schema) {
	if s.Description != "" {
		fmt.Fprintf(b, "\n%s\n", s.Description)
	}
	if len(s.Properties) == 0 {
		return
	}
	b.WriteString("\n| member | | |\n|---|---|---|\n")
	for _, name := range slices.Sorted(maps.Keys(s.Properties)) {
		required := "optional"
		if slices.Contains(s.Required, name) {
			required = ""
		}
		fmt.Fprintf(b, "| `%s` | %s | %s |\n", name, sentence(kind(s.Properties[name]), required), cell(s.Properties[name].Value.Description))
	}
}

// kind says what values a schema has.
func kind(ref *openapi3.SchemaRef) string {
	if ref == nil {
		return ""
	}
	if name, ok := strings.CutPrefix(ref.Ref, "#/components/schemas/"); ok {
		return fmt.Sprintf("[%s](#%s)", name, strings.ToLower(name))
	}
	s := ref.Value
	var kinds []string
	for _, part := range slices.Concat(s.AnyOf, s.OneOf) {
		kinds = append(kinds, kind(part))
	}
	if len(s.Enum) > 0 {
		for _, v := range s.Enum {
			kinds = append(kinds, fmt.Sprintf("`%v`", v))
		}
		return strings.Join(kinds, ", ")
	}
	if s.Type != nil {
		kinds = append(kinds, s.Type.Slice()...)
	}
	text := strings.Join(kinds, " or ")
	switch {
	case s.Items != nil:
		text += " of " + kind(s.Items)
	case s.AdditionalProperties.Schema != nil:
		text += " of " + kind(s.AdditionalProperties.Schema)
	case s.Format != "":
		text += " (" + s.Format + ")"
	}
	return text + bounds(s)
}

func bounds(s *openapi3.Schema) string {
	var said []string
	if s.Min != nil {
		said = append(said, fmt.Sprintf("from %v", *s.Min))
	}
	if s.Max != nil {
		said = append(said, fmt.Sprintf("to %v", *s.Max))
	}
	if s.MinLength > 0 {
		said = append(said, fmt.Sprintf("at least %d characters", s.MinLength))
	}
	if s.MaxLength != nil {
		said = append(said, fmt.Sprintf("at most %d characters", *s.MaxLength))
	}
	if s.MaxItems != nil {
		said = append(said, fmt.Sprintf("at most %d", *s.MaxItems))
	}
	if s.MaxProps != nil {
		said = append(said, fmt.Sprintf("at most %d members", *s.MaxProps))
	}
	if len(said) == 0 {
		return ""
	}
	return ", " + strings.Join(said, " ")
}

func sentence(parts ...string) string {
	return strings.Join(slices.DeleteFunc(parts, func(s string) bool { return s == "" }), ", ")
}

// cell is a text that may stand in a table.
func cell(text string) string {
	return strings.ReplaceAll(strings.ReplaceAll(text, "\n", " "), "|", "\\|")
}
