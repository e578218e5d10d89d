// Command evergrant keeps OAuth access alive.
//
// It is a server (serve, dev) and the command line of any Evergrant, this one's or one
// on AWS: those commands speak to it over HTTP, as an application's backend does.
// Nothing is decided here. The commands parse and wire; what they wire stands in the
// packages beneath internal.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"

	"github.com/alecthomas/kong"
)

// commands is the command line.
type commands struct {
	Dev   devCommand   `cmd:"" group:"run" help:"Try it: a broker, five simulated providers, and a page to click through."`
	Serve serveCommand `cmd:"" group:"run" help:"Run the broker on this machine."`
	Demo  demoCommand  `cmd:"" group:"run" help:"Take every dialect through its life, on a clock that is set, and print a table."`

	Connect    connectCommand    `cmd:"" group:"connections" help:"Connect an owner's account: opens the browser and waits for the consent."`
	Import     importCommand     `cmd:"" group:"connections" help:"Bring in refresh tokens that were got elsewhere, one or many, or use client credentials."`
	Activate   activateCommand   `cmd:"" group:"connections" help:"Begin to refresh held connections: imported with --hold, from another deployment, or held by hold."`
	Hold       holdCommand       `cmd:"" group:"connections" help:"Stop refreshing connections that another broker goes on with."`
	Export     exportCommand     `cmd:"" group:"connections" help:"Seal held connections for another deployment, into a file."`
	List       listCommand       `cmd:"" group:"connections" help:"List connections."`
	Show       showCommand       `cmd:"" group:"connections" help:"Show a connection; never its tokens."`
	Token      tokenCommand      `cmd:"" group:"connections" help:"Print a fresh access token."`
	Refresh    refreshCommand    `cmd:"" group:"connections" help:"Refresh a connection now."`
	Disconnect disconnectCommand `cmd:"" group:"connections" help:"Revoke a connection at its provider and erase its tokens."`
	Exec       execCommand       `cmd:"" group:"connections" help:"Run a program with a fresh access token in its environment."`
	StandIn    standInCommand    `cmd:"" group:"connections" help:"Refresh tokens for software that insists on refreshing by itself."`
	Revive     reviveCommand     `cmd:"" group:"connections" help:"After an incident at a provider: take back its verdicts, without the users."`

	Doctor doctorCommand `cmd:"" group:"operate" help:"Find what is wrong, with what to do about it. Changes nothing."`

	DeployCheck deployCheckCommand `cmd:"" group:"operate" help:"After a deployment: look whether all of it is there and reachable, and print the redirect URIs to register."`

	Rescue rescueCommand `cmd:"" group:"operate" help:"Replay tokens that could not be saved when they came."`
	Chunks chunksCommand `cmd:"" group:"operate" help:"Replay refreshes that were given up, on AWS."`

	Webhooks webhooksCommand `cmd:"" group:"operate" help:"What webhooks could not deliver."`

	Providers  providersCommand  `cmd:"" group:"set up" help:"Show what the catalogue knows of the providers."`
	Config     configCommand     `cmd:"" group:"set up" help:"Check or build a configuration."`
	Keys       keysCommand       `cmd:"" group:"set up" help:"Make API keys; rotate the data keys that seal tokens."`
	Completion completionCommand `cmd:"" group:"set up" help:"Print what makes bash, zsh or fish complete this command."`
	Complete   completeCommand   `cmd:"" hidden:"" name:"__complete" help:"Candidates for the last of the words; the completions ask this."`
	Version    versionCommand    `cmd:"" group:"set up" help:"Print the version."`
}

// process is what a command may use of the process that it runs in.
type process struct {
	ctx    context.Context // ends when the process is told to end
	stdin  io.Reader
	stdout io.Writer
	stderr io.Writer
	getenv func(string) string
	// environ is the whole environment, for a program that is started.
	environ func() []string
	// terminal: somebody is watching stderr.
	terminal bool
}

// printf writes to stdout. That it cannot is noticed by whoever reads it.
func (p *process) printf(format string, args ...any) { _, _ = fmt.Fprintf(p.stdout, format, args...) }

// sayf writes a line for people to stderr.
func (p *process) sayf(format string, args ...any) {
	_, _ = fmt.Fprintf(p.stderr, format+"\n", args...)
}

// The exit codes.
const (
	exitFailed = 1
	exitUsage  = 2
)

// errReported ends a command that has said already what is wrong.
var errReported = errors.New("reported")

// exitCode ends a command with the code of a program that it ran.
type exitCode int

func (c exitCode) Error() string { return fmt.Sprintf("exit code %d", int(c)) }

// usageError is a mistake of the command line.
type usageError struct{ error }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

func main() { os.Exit(run()) }

func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	p := &process{
		ctx: ctx, stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr, getenv: os.Getenv, environ: os.Environ,
		terminal: isTerminal(os.Stderr) && os.Getenv("TERM") != "dumb",
	}
	return p.exit(os.Args[1:], p.command(os.Args[1:]))
}

func isTerminal(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// command parses the command line and runs it.
func (p *process) command(args []string) error {
	parser, err := newParser(p)
	if err != nil {
		return err
	}
	command, err := parser.Parse(args)
	if err != nil {
		return misread(err)
	}
	return command.Run(p)
}

func newParser(p *process) (*kong.Kong, error) {
	return kong.New(&commands{},
		kong.Name("evergrant"),
		kong.Description("Evergrant keeps third-party OAuth access alive: it connects accounts, refreshes their tokens before they expire and hands out fresh ones.\n\n"+
			"Begin with: evergrant dev"),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, NoExpandSubcommands: true}),
		kong.ExplicitGroups([]kong.Group{
			{Key: "run", Title: "Run"}, {Key: "connections", Title: "Connections (of the server at --url)"}, {Key: "operate", Title: "Operate (the server at --url)"}, {Key: "set up", Title: "Set up"},
		}),
		kong.Vars{"dev_data": devDataFolder(), "server": defaultServer},
		kong.Exit(os.Exit), kong.Writers(p.stdout, p.stderr),
	)
}

// misread is the parser's error with the word that it did not know named for what it
// is, and with where to read on.
func misread(err error) error {
	said, node := err.Error(), (*kong.Node)(nil)
	if parsed := new(kong.ParseError); errors.As(err, &parsed) && parsed.Context != nil {
		node = parsed.Context.Selected()
	}
	help := "evergrant"
	if node != nil {
		help = node.FullPath()
	}
	rest, unexpected := strings.CutPrefix(said, "unexpected argument ")
	if unexpected && (node == nil || len(node.Children) > 0) {
		word, guess, guessed := strings.Cut(rest, ", did you mean")
		said = fmt.Sprintf("unknown command %q", word)
		if guessed {
			said += "; did you mean" + guess
		}
	}
	return usagef("%s\nTry: %s --help", said, help)
}

// exit says what is wrong, if anything is, and returns the exit code.
func (p *process) exit(args []string, err error) int {
	code, name := exitFailed, "failed"
	if errors.As(err, new(usageError)) {
		code, name = exitUsage, "usage"
	}
	if own := exitCode(0); errors.As(err, &own) {
		return int(own)
	}
	switch {
	case err == nil:
		return 0
	case errors.Is(err, errReported):
		return code
	case wantsJSON(args):
		p.errorJSON(name, err)
	default:
		p.sayf("evergrant: %s", cleanLines(err.Error()))
	}
	return code
}

// wantsJSON looks for --json itself: it counts where the rest cannot be parsed too.
func wantsJSON(args []string) bool {
	own := args
	if end := slices.Index(args, "--"); end >= 0 {
		own = args[:end]
	}
	return slices.Contains(own, "--json")
}

// errorJSON writes an error for programs, to stderr as any other: the server's problem
// as it came, else a code and a text of our own.
func (p *process) errorJSON(code string, err error) {
	var shown any = struct {
		Code   string `json:"code"` // usage or failed
		Detail string `json:"detail"`
	}{code, err.Error()}
	if refused := new(apiError); errors.As(err, refused) {
		shown = refused.Problem
	}
	encoder := json.NewEncoder(p.stderr)
	encoder.SetIndent("", "  ")
	encoder.SetEscapeHTML(false)
	_ = encoder.Encode(map[string]any{"error": shown})
}

type versionCommand struct {
	JSON bool `help:"Print JSON."`
}

// Run prints the version.
func (c *versionCommand) Run(p *process) error {
	if c.JSON {
		return p.printJSON(struct {
			Version string `json:"version"`
			Go      string `json:"go"`
		}{version(), goVersion()})
	}
	p.printf("evergrant %s (%s)\n", version(), goVersion())
	return nil
}

// version is that of the module, or of the commit that it was built from.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	if v := info.Main.Version; v != "" && v != "(devel)" {
		return v
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && len(s.Value) >= 12 {
			return "devel-" + s.Value[:12]
		}
	}
	return "devel"
}

func goVersion() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	return info.GoVersion
}
