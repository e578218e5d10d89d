package httpapi

import (
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/evergrant/evergrant/internal/broker"
	"github.com/evergrant/evergrant/internal/connection"
	"github.com/evergrant/evergrant/internal/secret"
	"github.com/evergrant/evergrant/internal/wire"
)

// connectionOf is v as the API shows it.
func connectionOf(v broker.View) wire.Connection {
	c := wire.Connection{
		ID: v.ID, Integration: v.Integration, Provider: v.Provider, Client: v.Client, Owner: v.Owner, ExternalID: v.ExternalID,
		Tags: object(v.Tags), Fields: object(v.Fields),
		Status: string(v.ShownStatus), Reason: wire.TextOrNull(v.ShownReason), Generation: v.Gen,
		RequestedScope: v.RequestedScope, GrantedScope: v.GrantedScope, MissingScope: strings.Join(v.MissingScope, " "),
		RedirectURI: v.RedirectURI, ExpiresAt: wire.TimeOrNull(v.ExpiresAt), NextRefreshAt: wire.TimeOrNull(v.NextRefreshAt),
		ReconnectBy: wire.TimeOrNull(v.ReconnectBy),
		CreatedAt:   wire.Time(v.CreatedAt), UpdatedAt: wire.Time(v.UpdatedAt), Journal: []wire.Entry{},
	}
	if v.AccountID != "" {
		c.Account = &wire.Account{ID: v.AccountID, Name: wire.TextOrNull(v.AccountName)}
	}
	if v.Status == connection.Disconnected {
		r := receiptOf(broker.Receipt{DisconnectedAt: v.DisconnectedAt, Revoked: v.Revocation, Proof: v.Proof, InFlight: v.InFlight})
		c.Receipt = &r
	}
	for _, e := range v.Journal.Entries() {
		c.Journal = append(c.Journal, wire.Entry{At: wire.Time(e.At), Outcome: e.Outcome.String(), Generation: e.Gen, TookMS: e.Millis})
	}
	return c
}

// object is m, as {} where it is nil.
func object(m map[string]string) map[string]string {
	if m == nil {
		return map[string]string{}
	}
	return m
}

// receiptOf is r as the API shows it. A connection that never had anything to revoke
// stores neither word; that reads as none.
func receiptOf(r broker.Receipt) wire.Receipt {
	return wire.Receipt{
		DisconnectedAt: wire.Time(r.DisconnectedAt), Revoked: orNone(r.Revoked), Proof: orNone(r.Proof), InFlight: r.InFlight,
	}
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

// importConnection is POST /v1/connections.
func (x *exchange) importConnection() (answer, error) {
	body, err := decode[wire.ImportRequest](x)
	if err != nil {
		return answer{}, err
	}
	request := broker.ImportRequest{
		Integration: body.Integration, Owner: body.Owner, Client: body.Client, ClientCredentials: body.GrantType == wire.ClientCredentials,
		RefreshToken: secret.New(body.RefreshToken), AccessToken: secret.New(body.AccessToken), Scope: body.Scope,
		ExternalID: body.ExternalID, Hold: body.Hold, Variables: body.Variables, Tags: body.Tags,
	}
	if body.ExpiresAt != nil {
		request.ExpiresAt = body.ExpiresAt.Unix()
	}
	if err := checkImport(request, body.GrantType); err != nil {
		return answer{}, err
	}
	result, err := x.Broker.Import(x.r.Context(), x.caller, request)
	if err != nil {
		return answer{}, err
	}
	x.target = result.ID
	status := http.StatusCreated
	switch {
	case result.Existed:
		status = http.StatusOK
	case result.Pending:
		status = http.StatusAccepted
	}
	shown := connectionOf(result.View)
	shown.TookTokens = result.TookTokens
	return reply(status, shown)
}

// checkImport checks what the use case does not see: the words, before they became
// its request.
func checkImport(r broker.ImportRequest, grant string) error {
	switch {
	case r.Integration == "":
		return invalid("integration is required.")
	case grant != "" && !r.ClientCredentials:
		return invalid("grant_type has to be %s or absent.", wire.ClientCredentials)
	case r.ClientCredentials && !(r.RefreshToken.IsZero() && r.AccessToken.IsZero()):
		return invalid("grant_type %s takes no tokens: Evergrant gets them.", wire.ClientCredentials)
	case !r.ClientCredentials && r.RefreshToken.IsZero() && r.AccessToken.IsZero():
		return invalid("refresh_token is required, or grant_type %s, or access_token where the provider has no refresh tokens.", wire.ClientCredentials)
	case r.ExpiresAt < 0, r.ExpiresAt != 0 && r.AccessToken.IsZero():
		return invalid("expires_at is a time after 1970, and that of access_token, which has to come with it.")
	}
	return nil
}

// list is GET /v1/connections.
func (x *exchange) list() (answer, error) {
	limit, err := x.number("limit", 0, 1, 100)
	if err != nil {
		return answer{}, err
	}
	request := broker.ListRequest{
		Owner: x.query["owner"], Integration: x.query["integration"], Status: connection.Status(x.query["status"]),
		Limit: int(limit), Cursor: x.query["cursor"],
	}
	statuses := []connection.Status{connection.Connecting, connection.Held, connection.Active, connection.NeedsReauth, connection.Disconnected}
	if _, told := x.query["status"]; told && !slices.Contains(statuses, request.Status) {
		return answer{}, invalid("status has to be connecting, held, active, needs_reauth or disconnected.")
	}
	for _, name := range slices.Collect(maps.Keys(x.query)) {
		if tag, ok := strings.CutPrefix(name, "tag."); ok {
			request.Tags = object(request.Tags)
			request.Tags[tag] = x.query[name]
		}
	}
	page, err := x.Broker.List(x.r.Context(), x.caller, request)
	if err != nil {
		return answer{}, err
	}
	items := make([]wire.Connection, 0, len(page.Items))
	for _, v := range page.Items {
		items = append(items, connectionOf(v))
	}
	return reply(http.StatusOK, wire.List[wire.Connection]{Items: items, Next: wire.TextOrNull(page.Next)})
}

// connection is GET /v1/connections/{id}.
func (x *exchange) connection() (answer, error) {
	v, err := x.Broker.Get(x.r.Context(), x.caller, x.r.PathValue("id"))
	if err != nil {
		return answer{}, err
	}
	return reply(http.StatusOK, connectionOf(v))
}

// setTags is PATCH /v1/connections/{id}.
func (x *exchange) setTags() (answer, error) {
	body, err := decode[wire.TagsRequest](x)
	if err != nil {
		return answer{}, err
	}
	if body.Tags == nil {
		return answer{}, invalid("tags is required; {} takes all away.")
	}
	v, err := x.Broker.SetTags(x.r.Context(), x.caller, x.r.PathValue("id"), body.Tags)
	if err != nil {
		return answer{}, err
	}
	return reply(http.StatusOK, connectionOf(v))
}

// activate is POST /v1/connections/{id}/activate.
func (x *exchange) activate() (answer, error) {
	if err := x.decodeNothing(); err != nil {
		return answer{}, err
	}
	v, err := x.Broker.Activate(x.r.Context(), x.caller, x.r.PathValue("id"))
	if err != nil {
		return answer{}, err
	}
	return reply(http.StatusOK, connectionOf(v))
}

// disconnect is DELETE /v1/connections/{id}.
func (x *exchange) disconnect() (answer, error) {
	r, err := x.Broker.Disconnect(x.r.Context(), x.caller, x.r.PathValue("id"))
	if err != nil {
		return answer{}, err
	}
	return reply(http.StatusOK, receiptOf(r))
}
