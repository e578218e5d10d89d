package provider_test

import (
	"bytes"
	"encoding/json"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/evergrant/evergrant/internal/provider"
	"github.com/santhosh-tekuri/jsonschema/v6"
)

func readJSON(t *testing.T, b []byte) any {
	t.Helper()
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func schemaFile(t *testing.T) []byte {
	t.Helper()
	b, err := os.ReadFile("catalog.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func compiledSchema(t *testing.T) *jsonschema.Schema {
	t.Helper()
	c := jsonschema.NewCompiler()
	if err := c.AddResource("catalog.schema.json", readJSON(t, schemaFile(t))); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("catalog.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestCatalogueKeepsToItsSchema(t *testing.T) {
	s := compiledSchema(t)
	for _, id := range provider.IDs() {
		b, err := provider.Source(id)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Validate(readJSON(t, b)); err != nil {
			t.Errorf("%s: %v", id, err)
		}
	}
}

func TestSchemaRefuses(t *testing.T) {
	s := compiledSchema(t)
	for name, change := range map[string]func(map[string]any){
		"an unknown field":           func(e map[string]any) { e["token_url"] = "https://x.example/" },
		"plain http":                 func(e map[string]any) { e["token_endpoint"] = "http://x.example/" },
		"a guess at authentication":  func(e map[string]any) { e["token_endpoint_auth_method"] = "basic" },
		"a rotation of another name": func(e map[string]any) { e["refresh"].(map[string]any)["rotation"] = "yes" },
		"a hole in the safety facts": func(e map[string]any) { delete(e["refresh"].(map[string]any), "reuse") },
		"seconds as text":            func(e map[string]any) { e["access_token_ttl_s"] = "3600" },
		"a loose pattern":            func(e map[string]any) { e["variables"] = map[string]any{"host": "[a-z]+"} },
		"evidence of another kind": func(e map[string]any) {
			e["evidence"] = map[string]any{"pkce": map[string]any{"source": "x", "kind": "known"}}
		},
		"an environment that rotates": func(e map[string]any) {
			e["environments"] = map[string]any{"a": map[string]any{"refresh": e["refresh"]}}
		},
		"no endpoint": func(e map[string]any) { delete(e, "token_endpoint") },
	} {
		b, err := provider.Source("redbooth")
		if err != nil {
			t.Fatal(err)
		}
		e, _ := readJSON(t, b).(map[string]any)
		if err := s.Validate(e); err != nil {
			t.Fatal(err)
		}
		change(e)
		if s.Validate(e) == nil {
			t.Errorf("%s is taken", name)
		}
	}
}

// The schema and the struct tell the same fields, so that neither falls behind.
func TestSchemaNamesTheFieldsOfAnEntry(t *testing.T) {
	var doc struct {
		Properties map[string]json.RawMessage `json:"properties"`
	}
	if err := json.Unmarshal(schemaFile(t), &doc); err != nil {
		t.Fatal(err)
	}
	delete(doc.Properties, "$schema")
	compareFields(t, "", reflect.TypeFor[provider.Entry](), doc.Properties, "id")
}

func compareFields(t *testing.T, path string, of reflect.Type, properties map[string]json.RawMessage, not ...string) {
	t.Helper()
	var names []string
	for field := range of.Fields() {
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		if slices.Contains(not, name) {
			continue
		}
		names = append(names, name)
		inner := field.Type
		raw := properties[name]
		var deeper struct {
			Properties map[string]json.RawMessage `json:"properties"`
			Items      struct {
				Properties map[string]json.RawMessage `json:"properties"`
			} `json:"items"`
		}
		if len(raw) > 0 {
			if err := json.Unmarshal(raw, &deeper); err != nil {
				t.Fatal(err)
			}
		}
		if inner.Kind() == reflect.Slice && inner.Elem().Kind() == reflect.Struct {
			compareFields(t, path+name+"[].", inner.Elem(), deeper.Items.Properties)
		}
		if inner.Kind() == reflect.Struct {
			compareFields(t, path+name+".", inner, deeper.Properties)
		}
	}
	slices.Sort(names)
	if told := slices.Sorted(maps.Keys(properties)); !slices.Equal(names, told) {
		t.Errorf("%s: the struct has %v\nthe schema has %v", path, names, told)
	}
}
