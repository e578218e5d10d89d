package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// Each shell loads its script and offers what it should. EVERGRANT_SHELLS says that the
// three of them are here.
func TestShellsComplete(t *testing.T) {
	if os.Getenv("EVERGRANT_SHELLS") == "" {
		t.Skip("EVERGRANT_SHELLS is not set: bash, zsh and fish are needed")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	bin := t.TempDir()
	// A test binary started under this name is the command; see TestMain.
	script := "#!/bin/sh\n" + runServe + "=yes exec '" + self + "' \"$@\"\n"
	if err := os.WriteFile(filepath.Join(bin, "evergrant"), []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	for shell, asks := range map[string]struct {
		args []string
		ask  func(words string) string
	}{
		"bash": {[]string{"--norc", "-c"}, func(words string) string {
			return `source <(evergrant completion bash); COMP_WORDS=(evergrant ` + words + `); COMP_CWORD=$((${#COMP_WORDS[@]}-1)); _evergrant; printf '%s\n' "${COMPREPLY[@]}"`
		}},
		// zsh has its completion system only in an interactive line; what it would
		// describe is printed instead.
		"zsh": {[]string{"-f", "-c"}, func(words string) string {
			return `compdef() { : }; _files() { : }; _describe() { local l; for l in "${(@)lines}"; do print -r -- "${l%%:*}"; done }
source <(evergrant completion zsh); words=(evergrant ` + words + `); CURRENT=$#words; _evergrant`
		}},
		"fish": {[]string{"--no-config", "-c"}, func(words string) string {
			return `evergrant completion fish | source; complete -C 'evergrant ` + strings.TrimSuffix(words, `''`) + `' | string split -f1 \t`
		}},
	} {
		for words, want := range map[string]string{"disc": "disconnect", "config ''": "check", "list --stat": "--status", "list --status nee": "needs_reauth"} {
			cmd := exec.Command(shell, append(asks.args, asks.ask(words))...)
			cmd.Env = append(os.Environ(), "PATH="+bin+string(os.PathListSeparator)+os.Getenv("PATH"), "HOME="+t.TempDir())
			out, err := cmd.CombinedOutput()
			if err != nil || !slices.Contains(strings.Split(string(out), "\n"), want) {
				t.Errorf("%s: %s: no %s, %v, in:\n%s", shell, words, want, err, out)
			}
		}
	}
}
