package main

import (
	"slices"
	"strings"

	"github.com/alecthomas/kong"
)

// completionCommand prints what makes a shell complete this command line.
type completionCommand struct {
	Shell string `arg:"" enum:"bash,zsh,fish" help:"bash, zsh or fish."`
}

// The scripts ask __complete for each word, so that they know of every command and flag
// and never grow old. What it does not know, such as a file, is the shell's to complete.
const (
	bashCompletion = `# In ~/.bashrc: source <(evergrant completion bash)
_evergrant() {
	local line
	COMPREPLY=()
	while IFS= read -r line; do
		COMPREPLY+=("${line%%$'\t'*}")
	done < <("${COMP_WORDS[0]}" __complete -- "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
}
complete -o default -F _evergrant evergrant
`
	zshCompletion = `#compdef evergrant
# In ~/.zshrc, after compinit: source <(evergrant completion zsh)
_evergrant() {
	local line
	local -a lines
	for line in "${(@f)$(${words[1]} __complete -- "${(@)words[2,CURRENT]}" 2>/dev/null)}"; do
		[[ -n $line ]] && lines+=("${${line%%$'\t'*}//:/\\:}:${line#*$'\t'}")
	done
	if (( $#lines )); then
		_describe evergrant lines
	else
		_files
	fi
}
compdef _evergrant evergrant
`
	fishCompletion = `# In ~/.config/fish/config.fish: evergrant completion fish | source
function __evergrant_complete
	set -l before (commandline -opc)
	set -l last (commandline -ct)
	$before[1] __complete -- $before[2..-1] "$last" 2>/dev/null
end
complete -c evergrant -a '(__evergrant_complete)'
`
)

// Run prints the script.
func (c *completionCommand) Run(p *process) error {
	script := map[string]string{"bash": bashCompletion, "zsh": zshCompletion, "fish": fishCompletion}[c.Shell]
	p.printf("%s", script)
	return nil
}

// completeCommand is what the scripts ask.
type completeCommand struct {
	Words []string `arg:"" optional:"" passthrough:"" help:"The words after evergrant, the last one being typed."`
}

// Run prints the candidates for the last word, each with a tab and what it is.
func (c *completeCommand) Run(p *process) error {
	parser, err := newParser(p)
	if err != nil {
		return err
	}
	words := c.Words
	if len(words) > 0 && words[0] == "--" {
		words = words[1:]
	}
	for _, found := range candidates(parser.Model.Node, words) {
		p.printf("%s\t%s\n", found[0], found[1])
	}
	return nil
}

// candidates are the words that may stand in place of the last one, each with its help.
func candidates(node *kong.Node, words []string) [][2]string {
	words = slices.DeleteFunc(slices.Clone(words), func(w string) bool { return w == "=" }) // as bash splits --flag=value
	if len(words) == 0 {
		return nil
	}
	before, last := words[:len(words)-1], words[len(words)-1]
	var open *kong.Flag // whose value comes next
	for _, w := range before {
		switch {
		case w == "--":
			return nil
		case open != nil:
			open = nil
		case strings.HasPrefix(w, "-"):
			open = valued(node, w)
		default:
			if child := childOf(node, w); child != nil {
				node = child
			}
		}
	}
	if open != nil {
		return beginning(last, enums(open.Value))
	}
	if strings.HasPrefix(last, "-") {
		return beginning(last, flags(node))
	}
	var all [][2]string
	for _, child := range node.Children {
		if !child.Hidden {
			all = append(all, [2]string{child.Name, child.Help})
		}
	}
	for _, arg := range node.Positional {
		all = append(all, enums(arg)...)
	}
	return beginning(last, all)
}

func childOf(node *kong.Node, name string) *kong.Node {
	for _, child := range node.Children {
		if child.Name == name {
			return child
		}
	}
	return nil
}

// valued is the flag of that spelling if its value is the next word.
func valued(node *kong.Node, word string) *kong.Flag {
	for _, group := range node.AllFlags(false) {
		for _, f := range group {
			if (word == "--"+f.Name || f.Short != 0 && word == "-"+string(f.Short)) && !f.IsBool() {
				return f
			}
		}
	}
	return nil
}

func flags(node *kong.Node) [][2]string {
	var all [][2]string
	for _, group := range node.AllFlags(true) {
		for _, f := range group {
			all = append(all, [2]string{"--" + f.Name, f.Help})
		}
	}
	return all
}

func enums(v *kong.Value) [][2]string {
	var all [][2]string
	for _, e := range v.EnumSlice() {
		if e != "" {
			all = append(all, [2]string{e, v.Help})
		}
	}
	return all
}

func beginning(prefix string, all [][2]string) [][2]string {
	return slices.DeleteFunc(all, func(found [2]string) bool { return !strings.HasPrefix(found[0], prefix) })
}
