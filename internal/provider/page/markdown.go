package page

import (
	"fmt"
	"strings"

	"github.com/evergrant/evergrant/internal/provider"
)

// Generated stands at the head of a page that nobody edits.
const Generated = "<!-- made from the catalogue by make providers-docs; edit internal/provider/catalog instead -->"

// Markdown is a provider's whole page.
func Markdown(e provider.Entry) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n\n# %s\n", Generated, e.Name)
	if e.Docs != "" {
		fmt.Fprintf(&b, "\nThe provider's own page: <%s>\n", e.Docs)
	}
	for _, s := range Sections(e) {
		fmt.Fprintf(&b, "\n## %s\n", s.Title)
		if s.Title == "Register" {
			b.WriteString("\n" + sample(e))
		}
		writeSection(&b, s)
	}
	return b.String()
}

func writeSection(b *strings.Builder, s Section) {
	if len(s.Rows) > 0 {
		b.WriteString("\n| | |\n|---|---|\n")
		for _, r := range s.Rows {
			fmt.Fprintf(b, "| %s | %s |\n", cell(r[0]), cell(r[1]))
		}
	}
	if len(s.Items) > 0 {
		b.WriteString("\n")
	}
	for _, item := range s.Items {
		fmt.Fprintf(b, "- %s\n", item)
	}
}

// cell makes a text fit for a table, in which a bar ends a cell even within code.
func cell(s string) string { return strings.ReplaceAll(s, "|", `\|`) }

// sample is the least configuration.
func sample(e provider.Entry) string {
	var b strings.Builder
	b.WriteString("<!-- config -->\n```yaml\npublic_url: https://auth.example.com\nintegrations:\n")
	fmt.Fprintf(&b, "  %s:\n    client_id: your-client-id\n", e.ID)
	switch {
	case e.TokenEndpointAuthMethod == "unknown":
		fmt.Fprintf(&b, "    client_secret: ${env:%s}\n", secretName(e.ID))
		fmt.Fprintf(&b, "    # Look up how clients authenticate there, and name it.\n    provider: {extends: %s, token_endpoint_auth_method: client_secret_post}\n", e.ID)
	case e.TokenEndpointAuthMethod != "none":
		fmt.Fprintf(&b, "    client_secret: ${env:%s}\n", secretName(e.ID))
	}
	if userinfo(e) {
		b.WriteString("    scopes: [openid] # tells whose account it is; add what your application needs\n")
	}
	b.WriteString("    return_to: [\"https://app.example.com/settings/*\"]\n```\n")
	return b.String()
}

// userinfo reports whether the account is read from a UserInfo endpoint, which answers
// for tokens of an OpenID Connect request alone, and such a request asks for openid
// (OpenID Connect Core 1.0 sections 5.3 and 3.1.2.1).
func userinfo(e provider.Entry) bool {
	return e.UserinfoEndpoint != "" && e.Identity.Endpoint == e.UserinfoEndpoint && e.Identity.IDField == "sub"
}

func secretName(id string) string {
	return strings.ToUpper(strings.ReplaceAll(id, "-", "_")) + "_SECRET"
}

// The marks between which the overview has its table.
const (
	TableBegin = "<!-- the table is made by make providers-docs -->"
	TableEnd   = "<!-- end of the table -->"
)

// Table is all providers at a glance.
func Table(all []provider.Entry) string {
	var b strings.Builder
	b.WriteString("\n| | id | client authentication | refresh token | the one before | a lost answer | revocation | account |\n|---|---|---|---|---|---|---|---|\n")
	for _, e := range all {
		r := e.Refresh
		refresh := map[string]string{"none": "stays", "always": "rotates", "sometimes": "may rotate"}[r.Rotation]
		if r.Supported == provider.No {
			refresh = "none"
		}
		before := map[string]string{
			"dies_at_once": "dies at once", "dies_on_first_use_of_new": "dies on use of the new", "grace_s": "grace of " + Span(r.GraceS), "stays": "stays",
		}[r.PreviousToken]
		lost := map[provider.LostAnswer]string{provider.SendNow: "send again", provider.GraceResend: "send again in time", provider.Wait: "wait"}[e.Profile(provider.GrantRefreshToken).LostAnswer]
		if r.Supported == provider.No {
			before, lost = "–", "–"
		}
		fmt.Fprintf(&b, "| [%s](%s) | `%s` | %s | %s | %s | %s | %s | %s |\n", cell(e.Name), e.ID+".md", e.ID, known(e.TokenEndpointAuthMethod),
			known(refresh), known(before), lost, yesNo(e.RevocationEndpoint != "" || e.RevocationRequest.URL != ""),
			yesNo(e.Identity.IDField != "" || e.Identity.Kept != "" || e.UserinfoEndpoint != ""))
	}
	return b.String() + "\n"
}

func known(s string) string {
	if s == "" || s == "unknown" {
		return "?"
	}
	return s
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}
