//go:build unix

package main

import "syscall"

// noCoreDump keeps the process's memory, which holds tokens and keys, out of core files.
// To lower a limit needs no right, so it does not fail.
func noCoreDump() { _ = syscall.Setrlimit(syscall.RLIMIT_CORE, &syscall.Rlimit{}) }
