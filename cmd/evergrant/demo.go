package main

// demoCommand takes every dialect through its life.
type demoCommand struct {
	JSON bool `help:"Print JSON lines."`
}

func (c *demoCommand) Run(p *process) error { return nil }
