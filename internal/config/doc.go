// Package config is Evergrant's configuration: the integrations, who may call the
// API, and every check that can be made before anything is sent.
//
// There are two spellings of it and one reader. People write evergrant.yaml, which
// package yamlfile turns into a tree of Nodes; the functions carry the compiled
// JSON, which Parse turns into the same tree. Read then checks the tree and gathers
// all Mistakes, each with its line and column, so that one run shows everything
// there is to mend. The compiled form has the provider entries inlined, which is
// why this package takes the catalogue as an argument instead of linking it: a
// Lambda carries neither a YAML parser nor the providers that it does not use.
//
// No secret stands in a configuration. A client_secret is a reference, ${ssm:…},
// ${secretsmanager:…}, ${env:…} or ${file:…}, resolved at run time by Secrets; that
// is the only value in which ${…} means anything, and what it resolves to is never
// looked at for another ${…}. A literal is accepted where the provider is on
// loopback, for the simulators, and cannot be compiled.
//
// This package reads no environment and no file.
package config
