package main

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/evergrant/evergrant/internal/wire"
)

// row is one connection that is to be imported, and where it stands in its source. Its
// tokens are in it, so a row is never printed.
type row struct {
	place string // such as "line 7"
	in    wire.ImportRequest
	// problem says why it cannot be imported as it stands, remedy what to do; "": it can.
	problem, remedy string
}

func (r row) refused(problem, remedy string) row {
	r.problem, r.remedy = problem, remedy
	return r
}

// maxRow bounds a line of a source in bytes: the two longest tokens and what is beside
// them.
const maxRow = 256 << 10

// rowReader reads a whole source. An error is about the source as a whole; what is wrong
// with one row stands in that row. No error holds text of the source: it is full of
// tokens.
type rowReader func(io.Reader) ([]row, error)

// readJSONL reads one import a line, in the form of the body of POST /v1/connections.
func readJSONL(r io.Reader) ([]row, error) {
	var rows []row
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxRow)
	n := 0
	for lines.Scan() {
		n++
		text := bytes.TrimSpace(lines.Bytes())
		if len(text) == 0 {
			continue
		}
		at := row{place: fmt.Sprintf("line %d", n)}
		if err := strictly(text, &at.in); err != nil {
			at = row{place: at.place}.refused("it is no import: "+err.Error(), "Each line is a JSON object with the members of POST /v1/connections.")
		}
		rows = append(rows, at)
	}
	if err := lines.Err(); errors.Is(err, bufio.ErrTooLong) {
		return nil, fmt.Errorf("line %d has more than %d bytes", n+1, maxRow)
	} else if err != nil {
		return nil, err
	}
	return rows, nil
}

// strictly decodes one JSON value and refuses unknown members. Its errors name a member
// at most, never what is in it.
func strictly(text []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	err := d.Decode(into)
	if err == nil {
		if _, err = d.Token(); errors.Is(err, io.EOF) {
			return nil
		}
		return errors.New("something stands behind the JSON object")
	}
	return withoutContents(err)
}

// withoutContents is a JSON error without the text that was being read.
func withoutContents(err error) error {
	if syntax := new(json.SyntaxError); errors.As(err, &syntax) {
		return fmt.Errorf("its JSON is broken at byte %d", syntax.Offset)
	}
	if typ := new(json.UnmarshalTypeError); errors.As(err, &typ) && typ.Field != "" {
		return fmt.Errorf("%s has the wrong type", typ.Field)
	}
	if _, name, ok := strings.Cut(err.Error(), "json: unknown field "); ok && len(name) < 60 {
		return fmt.Errorf("%s is no member of an import", name)
	}
	return errors.New("its JSON cannot be read")
}

// readCSV reads a table whose first line names the columns, which are the members of an
// import, tag.NAME and variable.NAME.
func readCSV(r io.Reader) ([]row, error) {
	table := csv.NewReader(r)
	table.TrimLeadingSpace = true
	head, err := table.Read()
	if err != nil {
		return nil, errors.New("line 1 should name the columns, such as integration,owner,external_id,refresh_token")
	}
	head = slices.Clone(head)
	for n, name := range head {
		head[n] = strings.TrimSpace(strings.TrimPrefix(name, "\ufeff")) // as spreadsheets begin a file
		if !knownColumn(head[n]) {
			return nil, fmt.Errorf("line 1: column %d is none of an import: the columns are %s, tag.NAME and variable.NAME", n+1, strings.Join(columns(), ", "))
		}
	}
	var rows []row
	for {
		cells, err := table.Read()
		if errors.Is(err, io.EOF) {
			return rows, nil
		}
		if parse := new(csv.ParseError); errors.As(err, &parse) {
			if !errors.Is(err, csv.ErrFieldCount) {
				return nil, fmt.Errorf("line %d: %w", parse.Line, parse.Err)
			}
			rows = append(rows, row{place: fmt.Sprintf("line %d", parse.StartLine)}.refused("it has another number of columns than line 1", "Quote values that hold commas."))
			continue
		} else if err != nil {
			return nil, err
		}
		line, _ := table.FieldPos(0)
		rows = append(rows, ofCells(head, cells, fmt.Sprintf("line %d", line)))
	}
}

func columns() []string {
	return []string{"integration", "owner", "external_id", "refresh_token", "access_token", "expires_at", "scope", "client", "grant_type"}
}

func knownColumn(name string) bool {
	return slices.Contains(columns(), name) || len(name) > len("tag.") && strings.HasPrefix(name, "tag.") || len(name) > len("variable.") && strings.HasPrefix(name, "variable.")
}

func ofCells(head, cells []string, place string) row {
	at := row{place: place}
	for n, name := range head {
		value := strings.TrimSpace(cells[n])
		if value == "" {
			continue
		}
		if problem := set(&at.in, name, value); problem != "" {
			return at.refused(problem, "Times are like 2026-03-01T12:00:00Z.")
		}
	}
	return at
}

// set puts one column's value into an import and says what is wrong with it, if anything.
func set(in *wire.ImportRequest, name, value string) (problem string) {
	switch name {
	case "integration":
		in.Integration = value
	case "owner":
		in.Owner = value
	case "external_id":
		in.ExternalID = value
	case "refresh_token":
		in.RefreshToken = value
	case "access_token":
		in.AccessToken = value
	case "scope":
		in.Scope = value
	case "client":
		in.Client = value
	case "grant_type":
		in.GrantType = value
	case "expires_at":
		t, err := time.Parse(time.RFC3339, value)
		if err != nil {
			return "expires_at is no time"
		}
		in.ExpiresAt = &t
	default:
		if tag, ok := strings.CutPrefix(name, "tag."); ok {
			in.Tags = with(in.Tags, tag, value)
		}
		if variable, ok := strings.CutPrefix(name, "variable."); ok {
			in.Variables = with(in.Variables, variable, value)
		}
	}
	return ""
}

func with(m map[string]string, name, value string) map[string]string {
	if m == nil {
		m = map[string]string{}
	}
	m[name] = value
	return m
}

// readEnvironment reads the one connection that stands in the variables
// EVERGRANT_IMPORT_INTEGRATION, EVERGRANT_IMPORT_OWNER and so on, named as the columns.
func readEnvironment(getenv func(string) string) []row {
	at := row{place: "the environment"}
	for _, name := range columns() {
		variable := "EVERGRANT_IMPORT_" + strings.ToUpper(name)
		if value := strings.TrimSpace(getenv(variable)); value != "" {
			if problem := set(&at.in, name, value); problem != "" {
				return []row{at.refused(variable+": "+problem, "Times are like 2026-03-01T12:00:00Z.")}
			}
		}
	}
	return []row{at}
}

// nangoConnection is what is used of a connection as Nango's API shows it with its
// credentials (GET /connections/{connectionId}?refresh_token=true).
type nangoConnection struct {
	ConnectionID      string                     `json:"connection_id"`
	ProviderConfigKey string                     `json:"provider_config_key"`
	ConnectionConfig  map[string]json.RawMessage `json:"connection_config"`
	Credentials       struct {
		Type         string          `json:"type"`
		AccessToken  string          `json:"access_token"`
		RefreshToken string          `json:"refresh_token"`
		ExpiresAt    json.RawMessage `json:"expires_at"`
		Raw          struct {
			Scope json.RawMessage `json:"scope"`
		} `json:"raw"`
		ConfigOverride struct {
			ClientID string `json:"client_id"`
		} `json:"config_override"`
	} `json:"credentials"`
	EndUser *struct {
		ID string `json:"id"`
	} `json:"end_user"`
	Tags map[string]json.RawMessage `json:"tags"`
}

// nango reads connections as Nango's API shows them: one after the other, in an array, or
// in the member connections of an object. renamed gives integrations other names than
// theirs; variables names the members of connection_config that become variables.
func nango(renamed map[string]string, variables []string) rowReader {
	return func(r io.Reader) ([]row, error) {
		var rows []row
		for d := json.NewDecoder(r); ; {
			var value json.RawMessage
			if err := d.Decode(&value); errors.Is(err, io.EOF) {
				return rows, nil
			} else if err != nil {
				return nil, withoutContents(err)
			}
			for _, one := range connectionsIn(value) {
				at := row{place: fmt.Sprintf("connection %d", len(rows)+1)}
				var c nangoConnection
				if err := json.Unmarshal(one, &c); err != nil {
					at = at.refused("it is no connection as Nango's API shows one: "+withoutContents(err).Error(), "Export it anew with GET /connections/{connectionId}?refresh_token=true.")
				} else {
					at = c.row(at, renamed, variables)
				}
				rows = append(rows, at)
			}
		}
	}
}

// connectionsIn are the connections in one value of a source, whichever way they stand.
func connectionsIn(value json.RawMessage) []json.RawMessage {
	var list []json.RawMessage
	if json.Unmarshal(value, &list) == nil {
		return list
	}
	var page struct {
		Connections []json.RawMessage `json:"connections"`
	}
	if json.Unmarshal(value, &page) == nil && page.Connections != nil {
		return page.Connections
	}
	return []json.RawMessage{value}
}

func (c nangoConnection) row(at row, renamed map[string]string, variables []string) row {
	at.in = wire.ImportRequest{
		Integration: c.ProviderConfigKey, Owner: c.owner(), ExternalID: c.ConnectionID,
		RefreshToken: c.Credentials.RefreshToken, AccessToken: c.Credentials.AccessToken, Scope: textOf(c.Credentials.Raw.Scope),
	}
	if name := renamed[c.ProviderConfigKey]; name != "" {
		at.in.Integration = name
	}
	for _, name := range variables {
		if value := textOf(c.ConnectionConfig[name]); value != "" {
			at.in.Variables = with(at.in.Variables, name, value)
		}
	}
	if t, err := time.Parse(time.RFC3339, textOf(c.Credentials.ExpiresAt)); err == nil && c.Credentials.AccessToken != "" {
		t = t.UTC().Truncate(time.Second)
		at.in.ExpiresAt = &t
	}
	switch {
	case c.Credentials.Type == "OAUTH2_CC":
		return at.refused("it is a connection by client credentials", "Those have nothing to move: put the client into the configuration, and evergrant import NAME --owner OWNER --client-credentials.")
	case c.Credentials.Type != "OAUTH2":
		return at.refused("it is no OAuth 2.0 connection, or was exported without credentials", "Evergrant keeps OAuth 2.0 alone. An export needs the scope environment:connections:read_credentials.")
	case c.Credentials.ConfigOverride.ClientID != "":
		return at.refused("its tokens belong to a client of its own", "Add that client to the integration's clients in the configuration, and import this connection by --from jsonl with its name as client.")
	}
	return at
}

// owner is the application's own id of the user: of the end user, or of the tag that has
// taken its place, or what the connection was called.
func (c nangoConnection) owner() string {
	if c.EndUser != nil && c.EndUser.ID != "" {
		return c.EndUser.ID
	}
	if id := textOf(c.Tags["end_user_id"]); id != "" {
		return id
	}
	return c.ConnectionID
}

// textOf is a JSON string's text, "" for anything else.
func textOf(value json.RawMessage) string {
	var s string
	if json.Unmarshal(value, &s) != nil {
		return ""
	}
	return s
}
