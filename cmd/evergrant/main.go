// Command evergrant keeps OAuth access alive.
//
// It is a server (serve, dev) and the command line of any Evergrant, this one's or one
// on AWS: those commands speak to it over HTTP, as an application's backend does.
// Nothing is decided here. The commands parse and wire; what they wire stands in the
// packages beneath internal.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/alecthomas/kong"
)

// commands is the command line.
type commands struct {
	Dev   devCommand   `cmd:"" group:"run" help:"Try it: a broker, five simulated providers, and a page to click through."`
	Serve serveCommand `cmd:"" group:"run" help:"Run the broker on this machine."`
	Demo  demoCommand  `cmd:"" group:"run" help:"Take every dialect through its life, on a clock that is set, and print a table."`

	Connect    connectCommand    `cmd:"" group:"connections" help:"Connect an owner's account: opens the browser and waits for the consent."`
	Import     importCommand     `cmd:"" group:"connections" help:"Bring in a refresh token that was got elsewhere, or use client credentials."`
	List       listCommand       `cmd:"" group:"connections" help:"List connections."`
	Show       showCommand       `cmd:"" group:"connections" help:"Show a connection; never its tokens."`
	Token      tokenCommand      `cmd:"" group:"connections" help:"Print a fresh access token."`
	Refresh    refreshCommand    `cmd:"" group:"connections" help:"Refresh a connection now."`
	Disconnect disconnectCommand `cmd:"" group:"connections" help:"Revoke a connection at its provider and erase its tokens."`
	Revive     reviveCommand     `cmd:"" group:"connections" help:"After an incident at a provider: take back its verdicts, without the users."`

	Providers providersCommand `cmd:"" group:"set up" help:"Show what the catalogue knows of the providers."`
	Config    configCommand    `cmd:"" group:"set up" help:"Check or build a configuration."`
	Keys      keysCommand      `cmd:"" group:"set up" help:"Make API keys."`
	Version   versionCommand   `cmd:"" group:"set up" help:"Print the version."`
}

// process is what a command may use of the process that it runs in.
type process struct {
	ctx    context.Context // ends when the process is told to end
	stdin  io.Reader
	stdout io.Writer
	stderr io.Writer
	getenv func(string) string
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

func main() { os.Exit(run()) }

func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	p := &process{ctx: ctx, stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr, getenv: os.Getenv}
	parser, err := kong.New(&commands{},
		kong.Name("evergrant"),
		kong.Description("Evergrant keeps third-party OAuth access alive: it connects accounts, refreshes their tokens before they expire and hands out fresh ones.\n\n"+
			"Begin with: evergrant dev"),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, NoExpandSubcommands: true}),
		kong.ExplicitGroups([]kong.Group{
			{Key: "run", Title: "Run"}, {Key: "connections", Title: "Connections (of the server at --url)"}, {Key: "set up", Title: "Set up"},
		}),
		kong.Vars{"dev_data": devDataFolder(), "server": defaultServer},
		kong.Exit(os.Exit),
	)
	if err != nil {
		p.sayf("evergrant: %v", err)
		return exitFailed
	}
	command, err := parser.Parse(os.Args[1:])
	if err != nil {
		p.sayf("evergrant: %v\nTry: evergrant --help", err)
		return exitUsage
	}
	switch err := command.Run(p); {
	case err == nil:
		return 0
	case errors.Is(err, errReported):
		return exitFailed
	case errors.As(err, new(usageError)):
		p.sayf("evergrant: %s", clean(err.Error()))
		return exitUsage
	default:
		p.sayf("evergrant: %s", cleanLines(err.Error()))
		return exitFailed
	}
}

// usageError is a mistake of the command line that the parser cannot see.
type usageError struct{ error }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

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
