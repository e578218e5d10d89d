package main

import (
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/evergrant/evergrant/internal/wire"
)

// TokenNeeds say what an access token must be good for.
type TokenNeeds struct {
	MinTTL time.Duration `name:"min-ttl" default:"60s" help:"How long the token must last; it is refreshed first if it would not."`
	Need   []string      `placeholder:"SCOPE" help:"Fail unless the token has these scopes."`
}

// token reads one.
func (n TokenNeeds) token(p *process, a *api, path string) (wire.Token, error) {
	q := url.Values{"min_ttl_s": {strconv.FormatInt(int64(n.MinTTL/time.Second), 10)}}
	if len(n.Need) > 0 {
		q.Set("need", strings.Join(n.Need, " "))
	}
	var t wire.Token
	err := a.call(p.ctx, http.MethodGet, path+"/token?"+q.Encode(), nil, &t)
	return t, err
}

// tokenCommand hands out an access token.
type tokenCommand struct {
	Target
	TokenNeeds
	Format string `enum:"raw,env,header,json,netrc" default:"raw" help:"How to print it: raw, env (NAME='…' for a shell), header (for curl -H @-), json (as --json), netrc (for curl --netrc-file)."`
	Env    string `default:"ACCESS_TOKEN" placeholder:"NAME" help:"Name of the variable, for --format env."`
	Host   string `placeholder:"HOST" help:"Host of the provider's API, for --format netrc."`
	Login  string `default:"oauth2" placeholder:"NAME" help:"User name, for --format netrc."`
}

// Run prints the token alone, so that it can be put where it is needed.
func (c *tokenCommand) Run(p *process) error {
	if err := c.check(); err != nil {
		return err
	}
	a, path, err := c.open(p)
	if err != nil {
		return err
	}
	t, err := c.token(p, a, path)
	if err != nil {
		return err
	}
	if c.JSON || c.Format == "json" {
		return p.printJSON(t)
	}
	p.printf("%s\n", c.format(t))
	return nil
}

// variable is what every shell takes as the name of a variable.
var variable = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

func (c *tokenCommand) check() error {
	switch {
	case c.Format == "env" && !variable.MatchString(c.Env):
		return usagef("%s cannot be a variable's name: use letters, digits and underscores", clean(c.Env))
	case c.Format == "netrc" && (c.Host == "" || strings.ContainsAny(c.Host, " \t\n/:@")):
		return usagef("--format netrc needs --host, the host name of the provider's API, such as api.example.com")
	case c.Format == "netrc" && (c.Login == "" || strings.ContainsAny(c.Login, " \t\n")):
		return usagef("--login must be one word")
	}
	return nil
}

func (c *tokenCommand) format(t wire.Token) string {
	token := clean(t.AccessToken)
	switch c.Format {
	case "env":
		return c.Env + "='" + strings.ReplaceAll(token, "'", `'\''`) + "'"
	case "header":
		return "Authorization: " + scheme(t) + " " + token
	case "netrc":
		return fmt.Sprintf("machine %s login %s password %s", c.Host, c.Login, token)
	}
	return token
}

// scheme is how the token is shown to an API (RFC 6750 section 2.1). Providers spell it
// in their own ways, and some APIs know one only.
func scheme(t wire.Token) string {
	if t.TokenType == "" || strings.EqualFold(t.TokenType, "Bearer") {
		return "Bearer"
	}
	return clean(t.TokenType)
}
