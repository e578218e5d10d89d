// Package evergrant_test holds the rules of this repository that a compiler does not know.
package evergrant_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// floorPlan lists every room, a folder with Go code in it, and what its code may import beyond
// the standard library. Rooms are named exactly; another module stands for all of its packages,
// and one on GitHub is written without its host. Tests may import what they like.
//
// Entrances come first, the ground last, and imports go downwards. To change this list is a
// decision about the design, not a way to make a build pass.
const floorPlan = `
functions/authorize              internal/app/{authorize,gateway} aws/aws-lambda-go
functions/callback               internal/app/{callback,gateway} aws/aws-lambda-go
functions/api                    internal/app/{api,gateway} aws/aws-lambda-go
functions/refresh                internal/app/refresh aws/aws-lambda-go
cmd/evergrant                    internal/{config,config/yamlfile,doctor,egress,httpapi,idtoken,boltstore,broker,refresh,schedule,circuit,console,connection,devpage,events,item,keyfile,metric/prom,provider,provider/page,rescue,secret,webhook,wire,wording,simprovider} alecthomas/kong rsc.io/qr  # no AWS: on a deployment it works over HTTP

client                           internal/{secret,wire} golang.org/x/oauth2  # public: what it imports, its users link
client/sigv4                     aws/aws-sdk-go-v2  # apart, so that nobody else links it

internal/app/authorize           internal/{app,app/gateway,httpapi}  # a room per function, so that none links what another needs
internal/app/callback            internal/{app,app/gateway,awsjson,awssecrets,config,eventbus,httpapi,idtoken}
internal/app/api                 internal/{app,app/gateway,awsjson,awssecrets,console,eventbus,httpapi,idtoken,lambdahttp,sqsqueue}
internal/app/refresh             internal/{app,awsjson,awssecrets,broker,eventbus,idtoken,sqsqueue}
internal/app/gateway             internal/{app,broker,httpapi,lambdahttp,wire} aws/aws-lambda-go
internal/app                     internal/{awsjson,broker,config,connection,dynamostore,egress,events,item,kmskey,metric/emf,provider,refresh,secret} aws/aws-sdk-go-v2
internal/app/awssim              # speaks AWS's JSON, for tests
internal/app/runtimeapi          # Lambda's half of a function, for tests and tools/initbench

internal/console                 # the operator's pages: files, and nothing of ours
internal/devpage                 internal/{secret,wire}
internal/httpapi                 internal/{broker,config,connection,panicked,provider,secret,wire,wording}
internal/lambdahttp              internal/panicked aws/aws-lambda-go
internal/dynamostore             internal/{connection,item,secret} aws/aws-sdk-go-v2 aws/smithy-go
internal/dynamostore/dynamolocal internal/item aws/aws-sdk-go-v2 aws/smithy-go  # tables for tests
internal/boltstore               internal/{connection,item,secret} go.etcd.io/bbolt
internal/kmskey                  internal/{awsjson,secret}
internal/awssecrets              internal/{awsjson,config,secret}
internal/sqsqueue                internal/awsjson
internal/awsjson                 aws/aws-sdk-go-v2 aws/smithy-go  # what single operations of small services share
internal/eventbus                internal/{awsjson,events,wire}
internal/webhook                 internal/{events,item,metric,provider,schedule,secret,wire} standard-webhooks/standard-webhooks

internal/egress                  internal/{config,provider}
internal/idtoken                 internal/provider coreos/go-oidc  # apart, so that authorize does not carry it

internal/keyfile                 internal/secret
internal/rescue                  internal/secret

internal/doctor                  internal/{config,provider,wire}
internal/simulate                internal/{broker,circuit,config,config/yamlfile,connection,item,provider,refresh,schedule,secret}  # a day and a year of the above, for tools/simulate
internal/refresh/modelcheck      internal/{circuit,connection,item,provider,refresh,schedule,secret}  # explores the machines, for tools/model

internal/broker/brokertest       internal/{boltstore,broker,config,config/yamlfile,connection,dynamostore,dynamostore/dynamolocal,events,httpapi,item,keyfile,outbox,provider,refresh,schedule,secret,simprovider,wire}  # a whole deployment, for tests
internal/broker                  internal/{config,events,metric,refresh,schedule,circuit,connection,item,panicked,provider,secret,wording}
internal/config/yamlfile         internal/{config,provider} goccy/go-yaml  # apart, so that no function carries a YAML parser
internal/config                  internal/{outbox,provider,secret,wording}
internal/events                  internal/{schedule,circuit,connection,item,metric,outbox,wire}
internal/refresh                 internal/{schedule,circuit,connection,item,provider,secret}
internal/circuit                 internal/{connection,item,outbox}
internal/schedule                internal/connection
internal/connection              internal/{item,outbox,secret}
internal/item/itemtest           internal/item google/go-cmp pgregory.net/rapid  # a contract, run by the stores' tests
internal/provider/page           internal/provider  # what an entry says, in words
internal/provider                internal/secret

internal/outbox                  internal/item
internal/metric/emf              internal/metric
internal/metric/prom             internal/metric prometheus/client_golang prometheus/common
internal/metric                  # names, units and labels, as data

internal/item
internal/panicked                # what may be logged of a panic
internal/secret
internal/simprovider             # knows HTTP, never our types
internal/wire
internal/wording                 # what people read on our pages

test/rows

tools/bench                      internal/{boltstore,broker,config,config/yamlfile,connection,dynamostore,dynamostore/dynamolocal,egress,httpapi,item,keyfile,metric,provider,refresh,schedule,secret} aws/aws-sdk-go-v2 aws/smithy-go  # a deployment, to measure
tools/flood
tools/initbench                  internal/{app/runtimeapi,config,config/yamlfile,secret}
tools/initbench/empty            aws/aws-lambda-go  # the least that a function can be, to compare with
tools/lambdazip
tools/model                      internal/refresh/modelcheck
tools/mutants
tools/providersdocs              internal/{provider,provider/page}
tools/sbom
tools/simulate                   internal/simulate
tools/soak                       internal/{simprovider,wire}
tools/suites
`

// revealers lists every file that reads a secret's text, outside tests, and why. Each is a place
// from which a secret could leave.
const revealers = `
client/client.go                   # the API key, as the bearer of its own requests
client/connections.go              # the confirm token and an imported token, sent to the server
client/secret.go                   # the caller's own way to a token
client/token.go                    # the token, as golang.org/x/oauth2 wants it
client/transport.go                # the bearer of requests to the provider
cmd/evergrant/api.go               # the API key, as the bearer of its own requests
cmd/evergrant/connect.go           # the confirm token, sent back to the server
cmd/evergrant/export.go            # a transfer key, written to its file, and what it opens, sent to the other server
cmd/evergrant/import.go            # the refresh token that is imported
cmd/evergrant/dev.go               # the key of the page, printed and kept 0600
cmd/evergrant/setup.go             # a new API key, shown once
internal/broker/begin.go           # state and cookie go to the browser; their hashes are kept
internal/broker/brokertest/stored.go  # tests compare what is stored with what the provider gave
internal/broker/brokertest/watch.go   # tests look whether what was handed out had been stored
internal/broker/brokertest/world.go   # the API keys of the tests' callers
internal/broker/complete.go        # the confirm token goes to the browser; its hash is kept
internal/broker/cursor.go          # a cursor, sealed so that it cannot be forged
internal/broker/imports.go         # checks an imported token's characters
internal/broker/move.go            # tokens of a held connection, sealed at once for another deployment, and read there
internal/broker/standin.go         # a stand-in goes to its maker; its hash is kept
internal/broker/token.go           # the secret fields that go with a token
internal/config/access.go          # a key's hash
internal/config/secrets.go         # compares client secrets
internal/devpage/backend.go        # the page's own API key
internal/httpapi/oauth.go          # the access token that is handed out by a stand-in, and the stand-in that was sent
internal/httpapi/page.go           # the confirm token, shown where no return address takes it
internal/httpapi/standin.go        # a new stand-in, shown once
internal/httpapi/token.go          # the access token that is handed out
internal/keyfile/keyfile.go        # the wrapping key
internal/provider/assertion.go     # the client's private key, to sign with
internal/provider/classify.go      # takes the request's secrets out of what a provider says
internal/idtoken/idtoken.go        # the ID token, to verify it
internal/provider/client.go        # the token request
internal/provider/clientauth.go    # the client's credentials
internal/provider/identity.go      # the bearer token of the identity request
internal/provider/pkce.go          # the challenge of a verifier
internal/provider/revoke.go        # the revocation request
internal/refresh/consentdriver.go  # seals what a consent brought
internal/webhook/webhook.go        # the secret that signs messages
`

const modulePath = "github.com/evergrant/evergrant/"

// A source is one parsed Go file. Its name is its path in the repository, with slashes.
type source struct {
	name string
	file *ast.File
}

func (s source) room() string { return path.Dir(s.name) }
func (s source) isTest() bool { return strings.HasSuffix(s.name, "_test.go") }

func TestFloorPlan(t *testing.T) {
	plan := parsePlan(t)
	rooms := map[string]bool{}
	for _, s := range parseSources(t) {
		if s.isTest() {
			continue
		}
		room := s.room()
		allowed, known := plan[room]
		if !known {
			if !rooms[room] {
				t.Errorf("%s is not on the floor plan", room)
			}
			rooms[room] = true
			continue
		}
		rooms[room] = true
		for _, spec := range s.file.Imports {
			imported := strings.Trim(spec.Path.Value, `"`)
			if !mayImport(allowed, imported) {
				t.Errorf("%s imports %s, which the floor plan does not allow", s.name, imported)
			}
		}
	}
	for _, room := range slices.Sorted(maps.Keys(plan)) {
		if !rooms[room] {
			t.Errorf("%s is on the floor plan and holds no Go code", room)
		}
		for _, imported := range plan[room] {
			if _, known := plan[imported]; strings.HasPrefix(imported, "internal/") && !known {
				t.Errorf("%s may import %s, which is not on the floor plan", room, imported)
			}
		}
	}
}

func TestSecretsAreRevealedOnlyWhereListed(t *testing.T) {
	listed := map[string]bool{}
	for row := range strings.Lines(revealers) {
		if name, why, _ := strings.Cut(row, "#"); strings.TrimSpace(name) != "" {
			listed[strings.TrimSpace(name)] = true
			if strings.TrimSpace(why) == "" {
				t.Errorf("%s is listed without a reason", strings.TrimSpace(name))
			}
		}
	}
	found := map[string]bool{}
	for _, s := range parseSources(t) {
		if !s.isTest() && s.room() != "internal/secret" && selects(s.file, "Reveal") {
			found[s.name] = true
		}
	}
	for _, name := range slices.Sorted(maps.Keys(found)) {
		if !listed[name] {
			t.Errorf("%s calls Reveal and is not listed", name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(listed)) {
		if !found[name] {
			t.Errorf("%s is listed and does not call Reveal", name)
		}
	}
}

// A provider is data. Where code knows one by name, the next provider like it would need
// code too. The five that have simulators are named there and where those are wired.
func TestNoCodeIsWrittenForAProvider(t *testing.T) {
	named := map[string]string{
		"cmd/evergrant/demo.go":      "shows each dialect, by its name",
		"cmd/evergrant/simulated.go": "configures the five simulators",
		"internal/broker/brokertest": "wires simulators, for tests",
		"tools/soak":                 "drives a simulator",
	}
	files, err := os.ReadDir("internal/provider/catalog")
	if err != nil {
		t.Fatal(err)
	}
	ids := map[string]bool{}
	for _, f := range files {
		ids[strings.TrimSuffix(f.Name(), ".json")] = true
	}
	// Words of the language or of OAuth, too.
	for _, word := range []string{"x", "box", "front"} {
		delete(ids, word)
	}
	used := map[string]bool{}
	for _, s := range parseSources(t) {
		if s.isTest() || strings.HasPrefix(s.name, "internal/simprovider/") || strings.HasPrefix(s.name, "internal/devpage/") || imports(s.file, "testing") {
			continue
		}
		ast.Inspect(s.file, func(n ast.Node) bool {
			lit, ok := n.(*ast.BasicLit)
			if !ok || lit.Kind != token.STRING {
				return true
			}
			text, err := strconv.Unquote(lit.Value)
			if err != nil || !ids[text] {
				return true
			}
			reason := named[s.name]
			if reason == "" {
				reason = named[s.room()]
			}
			if reason == "" {
				t.Errorf("%s knows the provider %s", s.name, text)
			}
			used[s.name], used[s.room()] = true, true
			return true
		})
	}
	for name := range named {
		if !used[name] {
			t.Errorf("%s is listed and names no provider", name)
		}
	}
}

func TestOnlyEntrancesReadTheEnvironment(t *testing.T) {
	entrances := []string{"cmd/", "functions/", "internal/app/", "tools/"}
	for _, s := range parseSources(t) {
		if s.isTest() || imports(s.file, "testing") || slices.ContainsFunc(entrances, func(e string) bool { return strings.HasPrefix(s.name, e) }) {
			continue
		}
		for _, name := range []string{"Getenv", "LookupEnv", "Environ", "ExpandEnv"} {
			if imports(s.file, "os") && selects(s.file, name) {
				t.Errorf("%s calls os.%s: settings come down from the entrance", s.name, name)
			}
		}
	}
}

func TestNothingRunsByBeingImported(t *testing.T) {
	for _, s := range parseSources(t) {
		for _, decl := range s.file.Decls {
			if f, ok := decl.(*ast.FuncDecl); ok && f.Recv == nil && f.Name.Name == "init" {
				t.Errorf("%s has an init function: wiring is written out", s.name)
			}
		}
	}
}

func TestEveryPackageSaysWhatItProvides(t *testing.T) {
	documented := map[string]bool{}
	for _, s := range parseSources(t) {
		if s.isTest() {
			continue
		}
		doc := s.file.Doc.Text()
		want := "Package " + s.file.Name.Name + " "
		documented[s.room()] = documented[s.room()] || strings.HasPrefix(doc, want) || s.file.Name.Name == "main" && doc != ""
	}
	for room, ok := range documented {
		if !ok {
			t.Errorf("%s has no package documentation", room)
		}
	}
}

func TestEveryExportedNameIsDocumented(t *testing.T) {
	for _, s := range parseSources(t) {
		if s.isTest() || s.file.Name.Name == "main" {
			continue
		}
		for _, decl := range s.file.Decls {
			for _, name := range undocumented(decl) {
				t.Errorf("%s: %s is exported and not documented", s.name, name)
			}
		}
	}
}

// parsePlan reads the floor plan as the imports allowed to each room.
func parsePlan(t *testing.T) map[string][]string {
	t.Helper()
	plan := map[string][]string{}
	for row := range strings.Lines(floorPlan) {
		row, _, _ = strings.Cut(row, "#")
		words := strings.Fields(row)
		if len(words) == 0 {
			continue
		}
		allowed := []string{}
		for _, word := range words[1:] {
			allowed = append(allowed, spellOut(word)...)
		}
		for _, room := range spellOut(words[0]) {
			if _, twice := plan[room]; twice {
				t.Errorf("%s is on the floor plan twice", room)
			}
			plan[room] = allowed
		}
	}
	return plan
}

// spellOut turns a/{b,c} into a/b and a/c.
func spellOut(word string) []string {
	before, rest, found := strings.Cut(word, "{")
	if !found {
		return []string{word}
	}
	names, after, _ := strings.Cut(rest, "}")
	words := []string{}
	for _, name := range strings.Split(names, ",") {
		words = append(words, before+name+after)
	}
	return words
}

func mayImport(allowed []string, imported string) bool {
	if room, ours := strings.CutPrefix(imported, modulePath); ours {
		return slices.Contains(allowed, room)
	}
	first, _, _ := strings.Cut(imported, "/")
	if !strings.Contains(first, ".") {
		return imported != "C" // the standard library
	}
	imported = strings.TrimPrefix(imported, "github.com/")
	return slices.ContainsFunc(allowed, func(module string) bool {
		return imported == module || strings.HasPrefix(imported, module+"/")
	})
}

// parseSources parses every Go file of the repository, in the order of their names.
func parseSources(t *testing.T) []source {
	t.Helper()
	sources := []source{}
	err := fs.WalkDir(os.DirFS("."), ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			base := entry.Name()
			if name != "." && (name == "build" || base == "testdata" || base == "node_modules" || strings.HasPrefix(base, ".")) {
				return fs.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") {
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), filepath.FromSlash(name), nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		sources = append(sources, source{name, file})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return sources
}

func imports(file *ast.File, pkg string) bool {
	return slices.ContainsFunc(file.Imports, func(spec *ast.ImportSpec) bool { return spec.Path.Value == `"`+pkg+`"` })
}

// selects reports whether the file has an expression x.name.
func selects(file *ast.File, name string) bool {
	found := false
	ast.Inspect(file, func(n ast.Node) bool {
		if s, ok := n.(*ast.SelectorExpr); ok && s.Sel.Name == name {
			found = true
		}
		return !found
	})
	return found
}

// undocumented returns the exported names that a declaration introduces without a comment of
// their own or, in a group of constants or variables, of the group.
func undocumented(decl ast.Decl) []string {
	switch decl := decl.(type) {
	case *ast.FuncDecl:
		if decl.Name.IsExported() && decl.Doc == nil && (decl.Recv == nil || ast.IsExported(receiver(decl))) {
			return []string{decl.Name.Name}
		}
	case *ast.GenDecl:
		names := []string{}
		for _, spec := range decl.Specs {
			switch spec := spec.(type) {
			case *ast.TypeSpec:
				if spec.Name.IsExported() && spec.Doc == nil && decl.Doc == nil {
					names = append(names, spec.Name.Name)
				}
			case *ast.ValueSpec:
				if spec.Names[0].IsExported() && spec.Doc == nil && spec.Comment == nil && decl.Doc == nil {
					names = append(names, spec.Names[0].Name)
				}
			}
		}
		return names
	}
	return nil
}

// receiver is the name of the type that a method belongs to.
func receiver(f *ast.FuncDecl) string {
	expr := f.Recv.List[0].Type
	if star, ok := expr.(*ast.StarExpr); ok {
		expr = star.X
	}
	if generic, ok := expr.(*ast.IndexExpr); ok {
		expr = generic.X
	}
	if name, ok := expr.(*ast.Ident); ok {
		return name.Name
	}
	return ""
}
