package main

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/evergrant/evergrant/internal/config"
	"github.com/evergrant/evergrant/internal/config/yamlfile"
	"github.com/evergrant/evergrant/internal/wording"
)

// configCommand is what can be done with a configuration offline.
type configCommand struct {
	Check checkCommand `cmd:"" help:"Check a configuration: every mistake with its line and column, and what to register at the providers."`
	Build buildCommand `cmd:"" help:"Compile a configuration to the JSON that is packaged with the functions."`

	Messages messagesCommand `cmd:"" help:"Print the texts of the pages that people see, to replace or translate them."`
}

type messagesCommand struct{}

// Run prints them as the file that pages.messages takes.
func (*messagesCommand) Run(p *process) error {
	p.printf("%s", wording.File())
	return nil
}

type checkCommand struct {
	File string `arg:"" optional:"" default:"evergrant.yaml" env:"EVERGRANT_CONFIG" help:"The configuration."`
	JSON bool   `help:"Print JSON."`
}

// checked is what a check found, as JSON.
type checked struct {
	OK           bool                 `json:"ok"`
	Mistakes     []checkedMistake     `json:"mistakes"`
	Warnings     []string             `json:"warnings"`
	Integrations []checkedIntegration `json:"integrations"`
}

type checkedMistake struct {
	File   string `json:"file"`
	Line   int    `json:"line"`
	Column int    `json:"column"`
	Path   string `json:"path"`
	Text   string `json:"text"`
}

type checkedIntegration struct {
	Name        string `json:"name"`
	Provider    string `json:"provider"`
	RedirectURI string `json:"redirect_uri"` // "" where no browser comes back
}

// Run checks the file.
func (c *checkCommand) Run(p *process) error {
	settings, err := yamlfile.Load(c.File)
	var mistakes config.Mistakes
	switch {
	case errors.As(err, &mistakes):
		return c.mistakes(p, mistakes)
	case err != nil:
		return err
	}
	found := checked{OK: true, Mistakes: []checkedMistake{}, Warnings: slices.Concat([]string{}, settings.Warnings(), unopened(settings))}
	for _, i := range settings.Integrations {
		found.Integrations = append(found.Integrations, checkedIntegration{i.Name, i.Provider, i.RegisteredURI(settings.PublicURL)})
	}
	if c.JSON {
		return p.printJSON(found)
	}
	c.print(p, settings, found)
	return nil
}

// unopened is what serve warns of, or refuses, though the file is good in itself.
func unopened(settings *config.Config) []string {
	var list []string
	if settings.PublicURL == "" {
		list = append(list, "no public_url: that is for AWS, which has an address of its own, and for evergrant serve on loopback. Everywhere else name the https origin that browsers use.")
	}
	if len(settings.APIKeys) == 0 && len(settings.IAMCallers) == 0 {
		list = append(list, noAPIKeys)
	}
	return list
}

func (c *checkCommand) print(p *process, settings *config.Config, found checked) {
	rows := [][]string{{"INTEGRATION", "PROVIDER", "REDIRECT URI TO REGISTER"}}
	for _, i := range found.Integrations {
		uri := i.RedirectURI
		if settings.PublicURL == "" && uri != "" {
			uri = "<public_url>" + uri
		}
		if uri == "" {
			uri = "none: no browser comes back"
		}
		rows = append(rows, []string{i.Name, i.Provider, uri})
	}
	p.table(rows)
	p.warn(found.Warnings)
	p.printf("\n%s is good. Integrations: %d, API keys: %d.\n", clean(c.File), len(settings.Integrations), len(settings.APIKeys))
	p.printf("The secrets that it names were not read: evergrant doctor --offline reads those of this machine.\n")
}

func (p *process) warn(texts []string) {
	for _, text := range texts {
		p.sayf("warning: %s", clean(text))
	}
}

func (c *checkCommand) mistakes(p *process, mistakes config.Mistakes) error {
	if !c.JSON {
		p.sayf("%s\nMistakes: %d.", cleanLines(mistakes.Error()), len(mistakes))
		return errReported
	}
	found := checked{Warnings: []string{}, Integrations: []checkedIntegration{}}
	for _, m := range mistakes {
		found.Mistakes = append(found.Mistakes, checkedMistake{m.File, m.Line, m.Column, m.Path, m.Text})
	}
	return errors.Join(p.printJSON(found), errReported)
}

type buildCommand struct {
	File string `arg:"" optional:"" default:"evergrant.yaml" env:"EVERGRANT_CONFIG" help:"The configuration."`
	Out  string `short:"o" placeholder:"FILE" help:"File to write; else stdout."`
}

// Run compiles the file.
func (c *buildCommand) Run(p *process) error {
	settings, err := yamlfile.Load(c.File)
	if err != nil {
		return err
	}
	compiled, err := settings.Compile()
	if err != nil {
		return err
	}
	p.warn(append(settings.Warnings(), settings.BuildWarnings()...))
	if c.Out == "" {
		p.printf("%s\n", compiled)
		return nil
	}
	return os.WriteFile(c.Out, append(compiled, '\n'), 0o644) // #nosec G306 -- it holds no secret, and Lambda reads it as another user
}

// keysCommand is about API keys, and the data keys of a server.
type keysCommand struct {
	New         newKeyCommand      `cmd:"" help:"Make an API key. It is printed once; the configuration holds its hash."`
	Rotate      rotateKeyCommand   `cmd:"" help:"Have the server make new data keys, which seal from now on."`
	NewTransfer transferKeyCommand `cmd:"" help:"Make the key of a move between two deployments: who has it opens what is exported for it."`
	Reseal      resealCommand      `cmd:"" help:"Have the server seal all tokens anew under the newest data key."`
}

// keyName is what the configuration takes as a key's name.
var keyName = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,62}$`)

type newKeyCommand struct {
	Name     string        `arg:"" optional:"" default:"backend" help:"Name of the key in the configuration and the logs."`
	Allow    []string      `default:"connect,token,manage" enum:"connect,token,manage,admin,metrics" help:"What it may do: connect, token, manage, admin, metrics."`
	Replaces string        `placeholder:"HASH" help:"The hash of the key that the new one replaces. Both work for a while, so that nothing stands still while the application changes over."`
	Overlap  time.Duration `default:"168h" help:"How long the replaced key goes on working."`
	Out      string        `short:"o" placeholder:"FILE" help:"Write the key to this new file, mode 0600, as --key-file takes it, and show only its entry."`
	JSON     bool          `help:"Print JSON."`
}

// newKey is a new key as JSON.
type newKey struct {
	Name     string       `json:"name"`
	Key      string       `json:"key,omitempty"`  // unless it was written to a file
	File     string       `json:"file,omitempty"` // that has it
	Hash     string       `json:"hash"`
	Previous *replacedKey `json:"previous,omitempty"`
}

type replacedKey struct {
	Hash  string `json:"hash"`
	Until string `json:"until"`
}

// keyHash is what the configuration takes as the hash of a key.
var keyHash = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)

// Run prints a new key and the line for the configuration.
func (c *newKeyCommand) Run(p *process) error {
	if !keyName.MatchString(c.Name) {
		return usagef("%s cannot be a key's name: use 1 to 63 lower-case letters, digits and hyphens, such as backend", clean(c.Name))
	}
	if len(c.Allow) == 0 || slices.Contains(c.Allow, "") {
		return usagef("--allow must name what the key may do: connect, token, manage, admin; a key that may do nothing is of no use")
	}
	key, hash := config.NewAPIKey()
	made := newKey{Name: c.Name, Key: key.Reveal(), Hash: hash}
	if c.Replaces != "" {
		// What was given is not shown: it may be the key itself.
		if !keyHash.MatchString(c.Replaces) {
			return usagef(`--replaces takes the hash of the old key as it stands in the configuration: "sha256:" and 64 hex digits`)
		}
		if c.Overlap <= 0 {
			return usagef("--overlap must be longer than nothing; to end the old key at once, leave --replaces out")
		}
		made.Previous = &replacedKey{c.Replaces, time.Now().Add(c.Overlap).UTC().Truncate(time.Second).Format(time.RFC3339)}
	}
	if c.Out != "" {
		if err := writeNewSecretFile(c.Out, key); err != nil {
			return fmt.Errorf("--out: %w", err)
		}
		made.Key, made.File = "", c.Out
	}
	if c.JSON {
		return p.printJSON(made)
	}
	if c.Out != "" {
		p.printf("The key is in %s, for --key-file: it stands nowhere else. In evergrant.yaml:\n\n", clean(c.Out))
	} else {
		p.printf("%s\n\nKeep it where your application keeps its secrets: it is not shown again. In evergrant.yaml:\n\n", made.Key)
	}
	p.printf("api_keys:\n  - {name: %s, hash: %q, %sallow: [%s], integrations: [\"*\"], owners: [\"*\"]}\n",
		clean(c.Name), hash, made.Previous, strings.Join(c.Allow, ", "))
	if made.Previous != nil {
		p.printf("\nIt takes the place of the entry of that name: keep its allow, integrations and owners. The old key works until %s;\nthe log marks its requests with \"previous_key\". Once there are none, take previous out.\n", made.Previous.Until)
	}
	return nil
}

// String is the member of the key's entry, with a comma; nothing where no key is
// replaced.
func (r *replacedKey) String() string {
	if r == nil {
		return ""
	}
	return fmt.Sprintf("previous: {hash: %q, until: %q}, ", r.Hash, r.Until)
}
