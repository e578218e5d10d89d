package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/evergrant/evergrant/internal/config"
	"github.com/evergrant/evergrant/internal/secret"
	"github.com/evergrant/evergrant/internal/simprovider"
)

// devCommand runs everything on loopback.
type devCommand struct {
	Listen string `short:"l" default:"127.0.0.1:8080" env:"EVERGRANT_LISTEN" help:"Loopback address to listen on. The simulated providers take the next port."`
	Data   string `short:"d" default:"${dev_data}" env:"EVERGRANT_DEV_DATA" help:"Folder of the store and the API key."`
	// Providers are rehearsed in place of those that dev has by itself.
	Providers []string `placeholder:"ID,…" help:"Simulate these providers of the catalogue, instead of the five that dev has by itself."`
	SimTTL    int64    `name:"sim-ttl" default:"120" help:"Life of the simulated providers' access tokens, in seconds."`
	LogLevel
}

// devKeyFile holds the API key of dev, in its data folder.
const devKeyFile = "api_key"

// minSimTTL: no token with less than 5 s left is handed out, so one that lives hardly
// longer is never any use.
const minSimTTL = 8

// devDataFolder is where dev keeps its data unless told otherwise.
func devDataFolder() string {
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = os.TempDir() // no home: a service user, or a container
	}
	return filepath.Join(cache, "evergrant", "dev")
}

// Run serves the broker, its page and the simulators until the process is told to end.
func (c *devCommand) Run(p *process) error {
	if c.SimTTL < minSimTTL || c.SimTTL > 1<<30 {
		return usagef("--sim-ttl must be %d or more: no token with less than 5 s left is handed out", minSimTTL)
	}
	main, second, err := c.listen()
	if err != nil {
		return err
	}
	defer func() { _, _ = main.Close(), second.Close() }() // closed by the servers, but for a failed start
	origin, simOrigin := "http://"+main.Addr().String(), "http://"+second.Addr().String()
	sims := simprovider.New(simprovider.Config{BaseURL: simOrigin, TokenTTL: secondsOf(c.SimTTL), FreeAgentModern: true})
	key, err := devKey(c.Data)
	if err != nil {
		return err
	}
	all, err := c.integrations(sims)
	if err != nil {
		return err
	}
	settings, err := devSettings(sims, all, origin, key)
	if err != nil {
		return err
	}
	n, err := openNode(nodeConfig{
		Settings: settings, Data: c.Data, Now: time.Now, Log: c.logger(p.stderr), Secrets: config.FileResolver(p.getenv, os.ReadFile),
	})
	if err != nil {
		return err
	}
	s := servers{ctx: p.ctx}
	s.add(second, sims)
	s.add(main, devHandler(n, sims, all, origin, key))
	p.printf("data:      %s\nproviders: %s/sim/{%s}/\nconsole:   %s/console\n", c.Data, simOrigin, strings.Join(providersOf(all), ","), origin)
	p.printf("To call its API, in another terminal:\n\n  export EVERGRANT_URL=%s\n  export EVERGRANT_API_KEY=%s\n\n", origin, key.Reveal())
	p.printf("The simulated providers forget everything when they stop: connections of an earlier run will ask to be reconnected.\n")
	p.printf("ready: %s\n", origin)
	return errors.Join(s.wait(n), n.close())
}

// integrations are what this dev simulates.
func (c *devCommand) integrations(sims *simprovider.Server) ([]simulated, error) {
	if len(c.Providers) == 0 {
		return simulatedIntegrations(), nil
	}
	return rehearsed(sims, c.Providers, c.SimTTL)
}

func devSettings(sims *simprovider.Server, all []simulated, origin string, key secret.Text) (*config.Config, error) {
	if err := register(sims, all, origin); err != nil {
		return nil, err
	}
	returnTo := []string{origin + "/app/*"}
	for _, port := range returnPorts() {
		returnTo = append(returnTo, fmt.Sprintf("http://127.0.0.1:%d%s", port, returnPath))
	}
	return simulatedSettings(sims, all, origin, config.HashAPIKey(key), returnTo)
}

// listen takes the port and the one after it, or any other for the simulators. The
// simulators protect nothing, so neither may be reached from elsewhere.
func (c *devCommand) listen() (main, second net.Listener, err error) {
	host, port, err := net.SplitHostPort(c.Listen)
	if err != nil {
		return nil, nil, usagef("--listen: %v", err)
	}
	if !isLoopback(host) {
		return nil, nil, usagef("dev listens on this machine only, such as 127.0.0.1:8080: its simulated providers protect nothing. Use serve for more")
	}
	if host == "localhost" {
		host = "127.0.0.1" // the name that browsers and cookies are held to
	}
	if main, err = net.Listen("tcp", net.JoinHostPort(host, port)); err != nil {
		return nil, nil, listenError(err)
	}
	next := strconv.Itoa(main.Addr().(*net.TCPAddr).Port + 1)
	if second, err = net.Listen("tcp", net.JoinHostPort(host, next)); err != nil {
		second, err = net.Listen("tcp", net.JoinHostPort(host, "0"))
	}
	if err != nil {
		return nil, nil, errors.Join(listenError(err), main.Close())
	}
	return main, second, nil
}

// devKey reads the API key of the data folder, or makes one.
func devKey(data string) (secret.Text, error) {
	if err := os.MkdirAll(data, 0o700); err != nil {
		return secret.Text{}, fmt.Errorf("data folder: %w", err)
	}
	path := filepath.Join(data, devKeyFile)
	key, err := readSecretFile(path)
	if err == nil && key.IsZero() {
		err = fmt.Errorf("%s is empty: delete it, and a new key is made", path)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return key, err
	}
	key, _ = config.NewAPIKey()
	if err := writeNewSecretFile(path, key); err != nil {
		return secret.Text{}, fmt.Errorf("API key: %w", err)
	}
	return key, nil
}
