// Package yamlfile reads evergrant.yaml: the one place with a YAML parser, for the
// command line and serve.
//
// The file is YAML, so JSON is accepted too. Of YAML only what a configuration needs
// is admitted: one document of mappings, lists and scalars. Anchors, aliases, merge
// keys, tags and a second document are mistakes, since a reader of the file, or a
// program that grows a few lines into gigabytes, could be misled by them. What the
// keys mean is checked by package config, whose Mistakes come back with the line and
// column of each.
package yamlfile
