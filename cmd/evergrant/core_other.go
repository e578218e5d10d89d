//go:build !unix

package main

// noCoreDump has nothing to keep from being written: core files are Unix's.
func noCoreDump() {}
