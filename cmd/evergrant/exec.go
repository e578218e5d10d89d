package main

import (
	"errors"
	"fmt"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"syscall"
)

// execCommand runs a program with an access token in its environment.
type execCommand struct {
	Server
	TokenNeeds
	Connection string   `required:"" placeholder:"ID" help:"The connection, conn_…"`
	Env        string   `default:"ACCESS_TOKEN" placeholder:"NAME" help:"Name of the variable that holds the token, ACCESS_TOKEN unless told."`
	Command    []string `arg:"" passthrough:"" help:"The program and its arguments, after --."`
}

// ownKeys are what a program that was given one access token must not get as well: with
// them it could have every token.
func ownKeys() []string { return []string{"EVERGRANT_API_KEY", "EVERGRANT_KEY"} }

// Run becomes the program, so that its signals, its terminal and its exit code are its
// own. The token is as fresh as --min-ttl says; a program that runs longer than it
// lasts should ask for itself.
func (c *execCommand) Run(p *process) error {
	if len(c.Command) > 0 && c.Command[0] == "--" {
		c.Command = c.Command[1:]
	}
	path, err := connectionPath(c.Connection)
	switch {
	case err != nil:
		return err
	case len(c.Command) == 0:
		return usagef("name the program: evergrant exec --connection ID --env NAME -- program argument …")
	case !variable.MatchString(c.Env):
		return usagef("%s cannot be a variable's name: use letters, digits and underscores", clean(c.Env))
	}
	program, err := exec.LookPath(c.Command[0])
	if err != nil {
		return fmt.Errorf("%s cannot be run: %w", clean(c.Command[0]), errors.Unwrap(err))
	}
	a, err := c.connect(p)
	if err != nil {
		return err
	}
	t, err := c.token(p, a, path)
	if err != nil {
		return err
	}
	return p.become(program, c.Command, append(without(p.environ(), append(ownKeys(), c.Env)), c.Env+"="+t.AccessToken))
}

// without is the environment less the named variables.
func without(environ, names []string) []string {
	return slices.DeleteFunc(environ, func(entry string) bool {
		name, _, _ := strings.Cut(entry, "=")
		return slices.Contains(names, name)
	})
}

// become replaces this process by the program. Windows has no such thing: there it
// waits for it and ends with its exit code.
func (p *process) become(program string, args, environ []string) error {
	if runtime.GOOS != "windows" {
		return fmt.Errorf("%s cannot be run: %w", clean(program), syscall.Exec(program, args, environ))
	}
	cmd := exec.Command(program, args[1:]...) // #nosec G204 -- what this command is for: no shell, the user's own words
	cmd.Env, cmd.Stdin, cmd.Stdout, cmd.Stderr = environ, p.stdin, p.stdout, p.stderr
	err := cmd.Run()
	if failed := new(exec.ExitError); errors.As(err, &failed) {
		return exitCode(failed.ExitCode())
	}
	return err
}
